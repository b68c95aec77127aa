/*
 * The nanobenchmarks of Adams and Agesen's comparison of 2006, as a multiboot guest: `nanobench
 * [ROW…]` prints "nano ROW LEAST MEDIAN OPERATIONS", in TSC cycles an operation. Rows whose name
 * ends in
 * "-user" start at CPL 3, as syscall does; the others run at CPL 0. Nothing checks a time: the
 * verdict counts whether each row's effect was there.
 */
#include "guests/bare/bare.h"
#include "guests/nanobench/nano.h"

enum { CODE_PAGE = 0, STACK_PAGE = 1, HOLE_PAGE = 2, PTE_PAGE = 3 };
#define MSR_STAR  0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_FMASK 0xc0000084u

extern const uint32_t bare_info;
uint64_t nano_enter(uint64_t rip, uint64_t rsp, uint64_t rax, uint64_t rdi, uint64_t rsi);
extern const char nano_where[], nano_syscall_entry[], nano_page_fault_entry[], nano_divide_entry[],
    nano_breakpoint_entry[];

static uint8_t fault_stack[4096] __attribute__((aligned(16)));

uint64_t nano_batch(const struct nano_row *row, uint64_t rounds)
{
    uint64_t code = REGION + CODE_PAGE * 4096ull, stack = REGION + (STACK_PAGE + 1) * 4096ull;
    uint64_t routine = code + (uintptr_t)row->fn - (uintptr_t)nano_user;
    uint64_t start = nano_tsc();

    if (row->at_cpl3)
        nano_enter(code, stack, routine, row->arg, rounds);
    else
        row->fn(row->arg, rounds);
    return nano_tsc() - start;
}

/* The stubs of bare.c save every register; ours go straight in. */
static void set_gate(unsigned vector, const char *entry)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) idtr;
    uint64_t at = (uintptr_t)entry;

    __asm__ volatile("sidt %0" : "=m"(idtr));
    uint16_t *gate = (uint16_t *)(idtr.base + vector * 16ull);
    gate[0] = (uint16_t)at;
    gate[3] = (uint16_t)(at >> 16);
    gate[4] = (uint16_t)(at >> 32);
    gate[5] = (uint16_t)(at >> 48);
}

static void prepare(void)
{
    region_init();
    region_map(CODE_PAGE, 0, P | U);
    region_map(STACK_PAGE, 1, P | W | U);
    *(volatile uint8_t *)region_map(PTE_PAGE, 2, P | W | A | D) = 1;
    region_unmap(HOLE_PAGE);
    for (unsigned i = 0; nano_user + i < nano_user_end; i++)
        frames[0][i] = (uint8_t)nano_user[i];
    bare_tss.rsp[0] = (uintptr_t)fault_stack + sizeof(fault_stack);
    wrmsr(MSR_STAR, (uint64_t)(SEL_UCODE32 & ~3u) << 48 | (uint64_t)SEL_CODE << 32);
    wrmsr(MSR_LSTAR, (uintptr_t)nano_syscall_entry);
    wrmsr(MSR_FMASK, 0x47700);
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 1); /* EFER.SCE */
    set_gate(14, nano_page_fault_entry);
    set_gate(0, nano_divide_entry);
    set_gate(3, nano_breakpoint_entry);
    bare_gate(3, 0, 3);
}

/* Is name among the words of the command line, behind the image's own? No words: every name is. */
static bool wanted(const char *name)
{
    const uint32_t *info = (const uint32_t *)(uintptr_t)bare_info;
    const char *p = info[0] & 4 ? (const char *)(uintptr_t)info[4] : "";
    bool any = false;

    for (unsigned word = 0; *p; word++) {
        const char *q = name;

        while (*p == ' ')
            p++;
        if (!*p)
            break;
        while (*p && *p != ' ' && *p == *q) {
            p++;
            q++;
        }
        if (word && (!*p || *p == ' ') && !*q)
            return true;
        while (*p && *p != ' ')
            p++;
        any |= word > 0;
    }
    return !any;
}

/* What a row is about must have happened: the fault's address, the last value of the register. */
static bool effect(const struct nano_row *row)
{
    uint64_t cr8;

    if (row->fn == nano_page_faults)
        return read_cr2() == row->arg;
    if (row->fn == nano_cr8_writes) {
        __asm__ volatile("movq %%cr8, %0" : "=r"(cr8));
        return cr8 == 0;
    }
    if (row->fn == nano_pte_stores || row->fn == nano_pte_changes)
        return (region_table[PTE_PAGE] & 0x201) == 1;
    return true;
}

/* KVM without VMX and SVM goes to LSTAR without leaving CPL 3: there is no such way to measure. */
static bool syscall_raises(void)
{
    uint64_t code = REGION + CODE_PAGE * 4096ull, stack = REGION + (STACK_PAGE + 1) * 4096ull, cs;

    wrmsr(MSR_LSTAR, code + (uintptr_t)(nano_where - nano_user));
    cs = nano_enter(code, stack, code + (uintptr_t)nano_syscalls - (uintptr_t)nano_user, 0, 1);
    wrmsr(MSR_LSTAR, (uintptr_t)nano_syscall_entry);
    return (cs & 3) == 0;
}

void bare_main(void)
{
    static uint64_t change[2] = {(uintptr_t)&region_table[PTE_PAGE], REGION + PTE_PAGE * 4096ull};
    const uint64_t hole = REGION + HOLE_PAGE * 4096ull + 8;
    const struct nano_row rows[] = {
        {"loop", nano_nothing, 1, 0, 0},
        {"syscall", nano_syscalls, 1, 0, 1},
        {"in", nano_ins, 8, 0, 0},
        {"cr8wr", nano_cr8_writes, 8, 0, 0},
        {"callret", nano_calls, 8, 0, 0},
        {"callret-user", nano_calls, 8, 0, 1},
        {"pgfault", nano_page_faults, 1, hole, 0},
        {"pgfault-user", nano_page_faults, 1, hole, 1},
        {"divzero", nano_divides, 1, 0, 0},
        {"divzero-user", nano_divides, 1, 0, 1},
        {"ptemod", nano_pte_stores, 8, (uintptr_t)&region_table[PTE_PAGE], 0},
        {"ptemod-invlpg-use", nano_pte_changes, 2, (uintptr_t)change, 0},
    };

    prepare();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        if (!wanted(rows[i].name))
            continue;
        if (rows[i].fn == nano_syscalls && !syscall_raises()) {
            bare_print("none %s SYSCALL stays at CPL 3\n", rows[i].name);
            continue;
        }
        struct nano_result r = nano_measure(&rows[i]);

        bare_print("nano %s %lu.%lu %lu.%lu %lu\n", rows[i].name, r.least / 10, r.least % 10,
                   r.median / 10, r.median % 10, r.operations);
        check(effect(&rows[i]), rows[i].name);
    }
}
