/* crash HOW: the ways a program ends badly. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int zero;

static int deep(int n)
{
    volatile char room[1000];

    room[0] = (char)n;
    return n < 0 ? 0 : deep(n + 1) + room[0];
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";

    if (!strcmp(how, "null"))
        *(volatile int *)(uintptr_t)(zero + 16) = 1;
    if (!strcmp(how, "deep"))
        return deep(1);
    if (!strcmp(how, "divide"))
        return 1000 / zero;
    if (!strcmp(how, "illegal"))
        __asm__ volatile("ud2");
    if (!strcmp(how, "trap"))
        __asm__ volatile("int3");
    if (!strcmp(how, "abort"))
        abort();
    if (!strcmp(how, "kernel")) /* the runtime's own memory */
        return *(volatile int *)0xffffffff80200000;
    if (!strcmp(how, "jump"))
        ((void (*)(void))0xffffffff80200000)();
    if (!strcmp(how, "io"))
        __asm__ volatile("outb %al, $0x80");
    if (!strcmp(how, "fork"))
        for (int i = 0; i < 1000; i++)
            if (fork() != -1 || errno != ENOSYS)
                return 1;
    return 0;
}
