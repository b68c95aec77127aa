/* Something for a debugger to look at (tests/gdb.sh): frames, a counter, vector values, a loop. */
#include <stdio.h>

volatile int counter;
volatile double product = 1.5;
volatile int stop;

__attribute__((noinline)) int leaf(int x)
{
    counter += x;
    return x * 2;
}

__attribute__((noinline)) int middle(int x)
{
    int twice = leaf(x) + 1;

    product *= twice;
    return twice;
}

int main(int argc, char **argv)
{
    int sum = 0;

    (void)argv;
    for (int i = 0; i < 5; i++)
        sum += middle(i);
    printf("sum %d product %g\n", sum, product);
    fflush(stdout);
    while (argc > 1 && !stop)
        counter++;
    return sum;
}
