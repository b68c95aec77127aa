/* Rounds of everything, and the verdict. */
#include "guests/flat32/flat32.h"

#define ROUNDS 40 /* the translator has begun by then */

uint8_t scratch[8][4096] __attribute__((aligned(4096)));
static unsigned passed, failed, round;

static void outb(uint16_t port, uint8_t val)
{
    __asm__ volatile("outb %0, %1" : : "a"(val), "d"(port));
}

static void print(const char *s)
{
    for (; *s; s++)
        outb(0x3f8, (uint8_t)*s);
}

static void number(unsigned n)
{
    if (n > 9)
        number(n / 10);
    outb(0x3f8, (uint8_t)('0' + n % 10));
}

void *memset(void *p, int c, unsigned n)
{
    for (uint8_t *b = p; n--;)
        *b++ = (uint8_t)c;
    return p;
}

void check(bool good, const char *what)
{
    passed += good;
    failed += !good;
    if (good || failed > 20)
        return;
    print("FAIL ");
    print(what);
    print(", round ");
    number(round);
    print("\n");
}

void plain_tests(void)
{
    test_insns();
    test_stack();
    test_strings();
    test_segments();
    test_faults();
    test_code();
}

unsigned main(void)
{
    for (round = 0; round < ROUNDS; round++)
        plain_tests();
    paging_on();
    for (; round < 2 * ROUNDS; round++) {
        plain_tests();
        test_paging();
        test_wrap();
        test_user();
    }
    for (; round < 3 * ROUNDS; round++)
        test_pae();
    for (; round < 4 * ROUNDS; round++) {
        test_long();
        plain_tests();
    }
    print("verdict: ");
    number(passed);
    print(" passed, ");
    number(failed);
    print(" failed\n");
    return failed > 100 ? 100 : failed;
}
