/* What a program finds at its start: arguments, the shape of the stack, auxiliary vector. */
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

int main(int argc, char **argv, char **envp)
{
    extern char **environ;

    for (int i = 1; i < argc; i++)
        printf("[%s]\n", argv[i]);
    printf("argv ends: %d\n", argv[argc] == NULL);
    printf("envp follows: %d %d\n", envp == argv + argc + 1, environ == envp);
    printf("page %lu\n", getauxval(AT_PAGESZ));
    printf("phdr %d phnum %d phent %lu\n", getauxval(AT_PHDR) != 0, getauxval(AT_PHNUM) > 2,
           getauxval(AT_PHENT));
    printf("secure %lu clktck %lu\n", getauxval(AT_SECURE), getauxval(AT_CLKTCK));
    printf("random %d\n", getauxval(AT_RANDOM) != 0);
    printf("platform %s\n", (char *)getauxval(AT_PLATFORM));
    printf("execfn is argv[0]: %d\n", !strcmp((char *)getauxval(AT_EXECFN), argv[0]));
    const Elf64_Phdr *p = (const Elf64_Phdr *)getauxval(AT_PHDR);
    int exec = 0;

    for (unsigned i = 0; i < getauxval(AT_PHNUM); i++)
        exec |= p[i].p_type == PT_LOAD && p[i].p_flags & PF_X;
    printf("program headers readable: %d\n", exec);
    return argc;
}
