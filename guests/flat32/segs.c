/* Segments that are not flat, FS and GS, faults of instructions. */
#include "guests/flat32/flat32.h"

static uint32_t *const based = (uint32_t *)BASE;

static __attribute__((noinline)) uint32_t sum(const uint32_t *p, unsigned n)
{
    uint32_t s = 0;

    while (n--)
        s += *p++;
    return s;
}

static __attribute__((noinline)) uint32_t es_load(const uint32_t *p)
{
    uint32_t a;

    __asm__ volatile("mov %%es:(%1), %0" : "=r"(a) : "r"(p) : "memory");
    return a;
}

static void set_ds(unsigned sel)
{
    __asm__ volatile("mov %0, %%ds" : : "r"(sel) : "memory");
}

static void set_es(unsigned sel)
{
    __asm__ volatile("mov %0, %%es" : : "r"(sel) : "memory");
}

/* FS and GS in turn, so that both are seen with every segment. */
static void set_fs(unsigned sel)
{
    __asm__ volatile("mov %0, %%fs" : : "r"(sel));
}

static uint32_t fs_load(uint32_t at)
{
    uint32_t a;

    __asm__ volatile("mov %%fs:(%1), %0" : "=r"(a) : "r"(at) : "memory");
    return a;
}

static void fs_read(void *at)
{
    fs_load((uint32_t)at);
}

static void fs_write(void *at)
{
    __asm__ volatile("movl $5, %%fs:(%0)" : : "r"(at) : "memory");
}

static void fs_const(void *arg)
{
    (void)arg;
    __asm__ volatile("mov %%fs:0xffffffc, %%eax" : : : "eax");
}

static void cs_write(void *at)
{
    __asm__ volatile("movl $5, %%cs:(%0)" : : "r"(at) : "memory");
}

static void other_segments(void)
{
    uint32_t a, b;

    /* The same code, hot by now, with another DS and another ES. */
    based[0] = 100;
    based[1] = 20;
    based[2] = 3;
    uint32_t *w = (uint32_t *)scratch[3];
    w[0] = w[1] = w[2] = 1;
    check(sum(w, 3) == 3, "flat DS");
    set_ds(BASED);
    a = sum((uint32_t *)0, 3);
    set_ds(DATA);
    check(a == 123, "DS with a base");
    check(sum(w, 3) == 3 && es_load(w) == 1, "flat DS again");
    set_es(BASED);
    a = es_load((uint32_t *)4);
    set_es(DATA);
    check(a == 20, "ES with a base");
    struct {
        uint32_t off;
        uint16_t sel;
    } far = {8, BASED};
    __asm__ volatile("les %2, %1; mov %%es:(%1), %0; mov %%es, %1; push %%ds; pop %%es"
                     : "=&r"(a), "=&r"(b)
                     : "m"(far));
    check(a == 3 && (uint16_t)b == BASED, "les");
    __asm__ volatile("push %%ds; lds (%1), %%ecx; mov (%%ecx), %0; pop %%ds"
                     : "=&r"(a)
                     : "r"(&far)
                     : "ecx", "memory");
    check(a == 3, "lds");
    __asm__ volatile("mov %%cs:(%1), %0" : "=r"(a) : "r"(based));
    check(a == 100, "cs: read");
    check(try(cs_write, based) == VEC_GP && last_error == 0 && based[0] == 100, "cs: write");
}

static void pushes(void)
{
    uint32_t *w = (uint32_t *)scratch[3] + 100;

    for (unsigned i = 0; i < 8; i++)
        w[i - 8] = 0xaaaa0000 + i;
    set_fs(BASED);
    __asm__ volatile("mov %%esp, %%esi; mov %0, %%esp; push %%es; push %%cs; push %%ss; push %%ds\n"
                     "push %%fs; push %%gs; mov %%esp, %%ecx; mov %%esi, %%esp"
                     :
                     : "r"(w)
                     : "ecx", "esi", "memory");
    check((uint16_t)w[-1] == DATA && (uint16_t)w[-2] == CODE32 && (uint16_t)w[-3] == DATA &&
              (uint16_t)w[-4] == DATA && (uint16_t)w[-5] == BASED && (uint16_t)w[-6] == DATA,
          "push of segments");
    check(w[-7] == 0xaaaa0001 && w[-8] == 0xaaaa0000, "push of segments, below");
    set_fs(DATA);
}

static void fs_and_gs(void)
{
    uint32_t a;

    set_fs(BASED);
    check(fs_load(0) == 100 && fs_load(8) == 3, "fs:");
    check(fs_load((uint32_t)scratch[3] - BASE) == 1, "fs: wraps");
    check(try(fs_write, (void *)16) == NONE && based[4] == 5, "fs: write");
    __asm__ volatile("movl $0x1234, %%fs:-4; mov %%fs:0xfffffffc, %0" : "=r"(a) : : "memory");
    check(a == 0x1234 && based[-1] == 0x1234, "fs:[-4]");
    set_fs(SMALL);
    check(try(fs_read, (void *)0xffd) == VEC_GP, "fs: limit");
    set_fs(SMALL);
    check(try(fs_const, 0) == VEC_GP, "fs: limit, constant");
    set_fs(RODATA);
    check(fs_load((uint32_t)based) == 100, "fs: read-only, read");
    check(try(fs_write, based + 4) == VEC_GP, "fs: read-only, written");
    set_fs(0);
    check(try(fs_read, based) == VEC_GP && last_error == 0, "fs: null");
    set_fs(DATA);
    __asm__ volatile("mov %1, %%gs; mov %%gs:4, %0; mov %2, %%gs"
                     : "=&r"(a)
                     : "r"(BASED), "r"(DATA));
    check(a == 20, "gs:");
    __asm__ volatile("mov %%gs, %0; push %%fs; pop %%gs" : "=r"(a));
    check((uint16_t)a == DATA, "mov r, gs");
}

void test_segments(void)
{
    other_segments();
    pushes();
    fs_and_gs();
}

/* --- faults --- */

static void divide(void *p)
{
    __asm__ volatile("xor %%edx, %%edx; mov $1, %%eax; divl (%0)" : : "r"(p) : "eax", "edx");
}

static void divide_far(void *p)
{
    (void)p;
    __asm__ volatile("mov $-1, %%edx; mov $1, %%eax; mov $-1, %%ecx; mov $0x80000000, %%edx\n"
                     "xor %%eax, %%eax; idiv %%ecx"
                     :
                     :
                     : "eax", "ecx", "edx");
}

static void breakpoint(void *p)
{
    (void)p;
    __asm__ volatile("int3");
}

static void overflow(void *p)
{
    __asm__ volatile("cmp $1, %0; into" : : "r"(p));
}

static void bound(void *p)
{
    __asm__ volatile("bound %0, %1" : : "r"(p), "m"(*(uint64_t *)scratch[3]));
}

static void undefined(void *p)
{
    (void)p;
    __asm__ volatile("ud2");
}

void test_faults(void)
{
    uint32_t *w = (uint32_t *)scratch[3], a = DATA | 2;

    w[0] = 0;
    check(try(divide, w) == VEC_DE, "div by zero");
    check(try(divide_far, 0) == VEC_DE, "idiv overflows");
    w[0] = 1;
    check(try(divide, w) == NONE, "div");
    check(try(breakpoint, 0) == VEC_BP, "int3");
    check(try(overflow, (void *)0x80000000) == VEC_OF, "into");
    check(try(overflow, (void *)5) == NONE, "into, no overflow");
    w[0] = (uint32_t)-3;
    w[1] = 9;
    check(try(bound, (void *)9) == NONE && try(bound, (void *)-3) == NONE, "bound");
    check(try(bound, (void *)10) == VEC_BR && try(bound, (void *)-4) == VEC_BR, "bound, outside");
    check(try(undefined, 0) == VEC_UD, "ud2");
    __asm__ volatile("arpl %w1, %w0; jz 1f; xor %0, %0; 1:" : "+r"(a) : "r"(3));
    check((uint16_t)a == (DATA | 3), "arpl");
}
