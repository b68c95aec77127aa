/*
 * A unikernel for hvt that tests its monitor: `mayfly run build/guests/hvt_plain WORD`. It ends
 * with the count of failed checks.
 */
#include "guests/hvt/hvt.h"

_Noreturn void hvt_main(const struct hvt_boot *b);
_Noreturn void hvt_trap(uint64_t vector, const uint64_t *frame);

/* --- exceptions: told to the monitor --- */

static struct {
    uint16_t offset0, selector, flags, offset1;
    uint32_t offset2, zero;
} idt[32];

static union {
    struct hvt_trap trap;
    uint8_t all[HVT_COOKIE];
} cookie;

_Noreturn void hvt_trap(uint64_t vector, const uint64_t *frame)
{
    uint64_t cr2;

    __asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
    hvt_printf("trap %lu, error %lx, rip %lx, cr2 %lx\n", vector, frame[0], frame[1], cr2);
    cookie.trap =
        (struct hvt_trap){cr2, frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]};
    hvt_exit(HVT_STATUS_ABORT, (uint64_t)&cookie);
}

/* The first GDT lies where nothing is mapped: delivery needs one that can be read. */
static const uint64_t gdt[] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff};

static void catch_exceptions(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) r = {sizeof idt - 1, (uint64_t)idt},
                              g = {sizeof gdt - 1, (uint64_t)gdt};

    for (unsigned i = 0; i < 32; i++) {
        uint64_t at = (uint64_t)hvt_vectors + i * 16ull;

        idt[i].offset0 = (uint16_t)at;
        idt[i].selector = 8;
        idt[i].flags = 0x8e00;
        idt[i].offset1 = (uint16_t)(at >> 16);
        idt[i].offset2 = (uint32_t)(at >> 32);
    }
    __asm__ volatile("lgdt %1; lidt %0" : : "m"(r), "m"(g) : "memory");
}

/* --- what the command line asks for --- */

static unsigned number(const char *s)
{
    unsigned n = 0;

    while (*s >= '0' && *s <= '9')
        n = n * 10 + (unsigned)(*s++ - '0');
    return n;
}

/* The rest of the line when its first word is this one. */
static const char *after(const char *line, const char *word)
{
    while (*word && *line == *word)
        line++, word++;
    return *word ? NULL : *line == ' ' ? line + 1 : *line ? NULL : line;
}

static void touch(uintptr_t at)
{
    uint64_t v;

    __asm__ volatile("movq (%1), %0" : "=r"(v) : "r"(at));
}

static void much(void)
{
    for (unsigned i = 0; i < 5000; i++)
        hvt_printf("line %lu of many, each with a little text to make it longer\n", (uint64_t)i);
}

static void run(const char *line)
{
    const char *rest;

    if ((rest = after(line, "say")))
        hvt_printf("%s\n", rest);
    else if ((rest = after(line, "exit")))
        hvt_exit((int)number(rest), 0);
    else if (after(line, "layout"))
        hvt_layout();
    else if (after(line, "memory"))
        hvt_printf("%lu\n", hvt_info->mem_size);
    else if (after(line, "clock"))
        hvt_clock();
    else if (after(line, "disks"))
        hvt_disks();
    else if ((rest = after(line, "echo")))
        hvt_echo(number(rest));
    else if (after(line, "arp")) /* the router of the test's namespace */
        hvt_arp(0x0a4e0001);
    else if (after(line, "much"))
        much();
    else if (after(line, "null"))
        touch(8);
    else if (after(line, "page-tables"))
        touch(0x2000);
    else if (after(line, "write-low"))
        *(volatile uint64_t *)hvt_info = 1;
    else if (after(line, "beyond"))
        touch(hvt_info->mem_size);
    else if (after(line, "undefined"))
        __asm__ volatile("ud2");
    else if (after(line, "abort"))
        hvt_exit(HVT_STATUS_ABORT, 0);
    else if (after(line, "triple"))
        __asm__ volatile("lidt %0; ud2" : : "m"((struct { uint64_t w[2]; }){{0}}));
    else if (after(line, "spin"))
        for (;;)
            __asm__ volatile("pause");
    else if (after(line, "sleep")) {
        int32_t ret;

        hvt_print("asleep\n");
        for (;;)
            hvt_poll(~0ull, &ret);
    } else if (after(line, "halt"))
        __asm__ volatile("cli; hlt");
    else if ((rest = after(line, "bad"))) {
        hvt_printf("%s\n", hvt_hostile(rest) ? "still here" : "no such thing");
        hvt_exit(2, 0);
    } else
        hvt_check(false, "a word that it knows");
}

_Noreturn void hvt_main(const struct hvt_boot *b)
{
    hvt_info = b;
    catch_exceptions();
    run((const char *)b->cmdline);
    hvt_exit((int)hvt_failures, 0);
}
