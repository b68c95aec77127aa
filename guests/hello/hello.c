/* hello [--exit N] [ARG...]: greets on stdout, then the arguments one a line; exits with N. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    int status = 0;

    printf("hello, world\n");
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--exit") && i + 1 < argc)
            status = atoi(argv[++i]);
        else
            printf("%s\n", argv[i]);
    }
    return status;
}
