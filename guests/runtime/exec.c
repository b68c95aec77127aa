/* From the program's file to its first instruction: segments, stack, auxiliary vector (System V ABI
 * x86-64, 3.4.1 and 3.4.3). */
#include <asm/mman.h>
#include <elf.h>
#include <linux/auxvec.h>
#include "guests/runtime/vm.h"

#define POPULATE_MEMORY (16ull << 20)
#define POPULATE        (1ull << 20) /* a program up to this size is there as a whole from the start */

struct inode *program_inode;
const char *program_path;
uint64_t saved_auxv[48];
unsigned saved_auxv_bytes;
uint64_t arg_start, arg_end, env_start, env_end;

static _Noreturn void refuse(const char *why)
{
    say("mayfly: %s: %s", program_path, why);
    machine_exit(126);
}

/* The monitor has looked at the file (monitor/boot_program.c); what is left is memory. */
static uint64_t map_segment(const Elf64_Phdr *p, uint64_t base)
{
    uint64_t at = base + p->p_vaddr, page = page_down(at), off = page_down(p->p_offset);
    uint64_t file_end = page_up(at + p->p_filesz), end = page_up(at + p->p_memsz);
    uint32_t prot = (p->p_flags & PF_R ? PROT_READ : 0) | (p->p_flags & PF_W ? PROT_WRITE : 0) |
                    (p->p_flags & PF_X ? PROT_EXEC : 0);
    int err = 0;

    if (!p->p_memsz)
        return 0;
    if (p->p_filesz)
        err = vm_map(page, file_end - page, prot, false, program_inode, off, NULL);
    else
        file_end = page;
    if (!err && end > file_end)
        err = vm_map(file_end, end - file_end, prot, false, NULL, 0, NULL);
    if (err)
        refuse("it does not fit in memory: give more with -m");
    return end;
}

/* The rest of a segment's last page of the file is the next thing in the file. */
static void clear_rest(const Elf64_Phdr *p, uint64_t base)
{
    uint64_t from = base + p->p_vaddr + p->p_filesz, end = base + p->p_vaddr + p->p_memsz;

    if (p->p_type == PT_LOAD && p->p_filesz && end > from && p->p_flags & PF_W && from % PAGE &&
        clear_out(from, least(page_up(from), end) - from))
        refuse("it does not fit in memory: give more with -m");
}

/* --- the stack: words go through the bounce buffer, to be copied many at a time --- */

struct words {
    uint64_t to, n; /* where those in the buffer go, how many */
};

static void flush(struct words *w)
{
    if (copy_out(w->to, bounce, w->n * 8))
        refuse("its arguments do not fit on the stack");
    w->to += w->n * 8;
    w->n = 0;
}

static void word(struct words *w, uint64_t value)
{
    ((uint64_t *)bounce)[w->n++] = value;
    if (w->n == BOUNCE / 8)
        flush(w);
}

static uint32_t cpuid_edx(void)
{
    uint32_t a = 1, b, c, d;

    __asm__("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    return d;
}

/* Addresses of n strings one after the other, and a NULL: where they end. */
static uint64_t put_strings(struct words *w, uint64_t n, const char **strings, uint64_t at)
{
    while (n--) {
        size_t len = length(*strings) + 1;

        word(w, at);
        *strings += len;
        at += len;
    }
    word(w, 0);
    return at;
}

/* Where Linux says 0 and a C library assumes it, nothing is said. */
static void make_auxv(const Elf64_Ehdr *h, uint64_t base, uint64_t phdr, uint64_t small,
                      uint64_t name)
{
    const uint64_t v[] = {AT_HWCAP,       cpuid_edx(),
                          AT_PAGESZ,      PAGE,
                          AT_CLKTCK,      100,
                          AT_PHDR,        phdr,
                          AT_PHENT,       56,
                          AT_PHNUM,       h->e_phnum,
                          AT_SECURE,      0,
                          AT_ENTRY,       base + h->e_entry,
                          AT_EXECFN,      name,
                          AT_RANDOM,      small,
                          AT_PLATFORM,    small + 16,
                          AT_MINSIGSTKSZ, fpu_bytes + 1024,
                          AT_NULL,        0};

    _Static_assert(sizeof v <= sizeof saved_auxv && sizeof(Elf64_Phdr) == 56, "");
    copy(saved_auxv, v, sizeof v);
    saved_auxv_bytes = sizeof v;
}

/* argc, argv, NULL, envp, NULL, auxv; RSP is 16-aligned at argc. Above them what they point to. */
static uint64_t build_stack(const Elf64_Ehdr *h, uint64_t base, uint64_t phdr)
{
    const char *strings = kva(boot.args_gpa);
    size_t name_len = length(program_path) + 1;
    struct {
        uint8_t seed[16];
        char platform[8];
    } small = {.platform = "x86_64"};
    uint64_t name = stack_top - 8 - name_len, text = name - boot.args_len, at = text - sizeof small;
    struct fault f;

    if (vm_map(stack_top - STACK_SIZE, STACK_SIZE, PROT_READ | PROT_WRITE, false, NULL, 0,
               "[stack]") ||
        vm_fault(stack_top - 1, true, false, &f))
        refuse("too little memory: give more with -m");
    copy(small.seed, boot.auxv_seed, sizeof small.seed);
    if (copy_out(name, program_path, name_len) || copy_out(text, strings, boot.args_len) ||
        copy_out(at, &small, sizeof small))
        refuse("its arguments do not fit on the stack");
    make_auxv(h, base, phdr, at, name);

    uint64_t words = 1 + boot.argc + boot.envc + 2 + saved_auxv_bytes / 8;
    struct words w = {.to = (at - words * 8) & ~15ull};
    uint64_t sp = w.to;

    arg_start = text;
    word(&w, boot.argc);
    arg_end = env_start = put_strings(&w, boot.argc, &strings, text);
    env_end = put_strings(&w, boot.envc, &strings, env_start);
    flush(&w);
    if (copy_out(w.to, saved_auxv, saved_auxv_bytes))
        refuse("its arguments do not fit on the stack");
    return sp;
}

/* At the end of the linear part, unless the program wants to be there, or it is too small. */
static uint64_t place_stack(const Elf64_Phdr *p, const Elf64_Ehdr *h, uint64_t base)
{
    uint64_t end = LINEAR_LOW, top = linear_high();

    for (unsigned i = 0; i < h->e_phnum; i++)
        if (p[i].p_type == PT_LOAD && base + p[i].p_vaddr + p[i].p_memsz > end)
            end = base + p[i].p_vaddr + p[i].p_memsz;
    if (top < STACK_SIZE + STACK_GUARD || end > top - STACK_SIZE - STACK_GUARD)
        top = 0x7fffff000000ull;
    return top;
}

_Noreturn void exec_program(void)
{
    const uint8_t *file = kva(boot.program_gpa);
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)file;
    const Elf64_Phdr *p = (const Elf64_Phdr *)(file + h->e_phoff);
    uint64_t base = h->e_type == ET_DYN ? MAYFLY_PIE_BASE : 0, start = NEVER, end = 0, phdr = 0;

    program_path = kva(boot.path_gpa);
    stack_top = place_stack(p, h, base);
    for (unsigned i = 0; i < h->e_phnum; i++) {
        if (p[i].p_type == PT_PHDR)
            phdr = base + p[i].p_vaddr;
        if (p[i].p_type != PT_LOAD)
            continue;
        uint64_t e = map_segment(&p[i], base);

        if (e > end)
            end = e;
        start = least(start, page_down(base + p[i].p_vaddr));
        if (!phdr && h->e_phoff >= p[i].p_offset && h->e_phoff < p[i].p_offset + p[i].p_filesz)
            phdr = base + p[i].p_vaddr + (h->e_phoff - p[i].p_offset);
    }
    vm_set_brk(end);
    if (boot.program_len <= POPULATE && end - start <= POPULATE_MEMORY)
        vm_populate(start, end);
    for (unsigned i = 0; i < h->e_phnum; i++)
        clear_rest(&p[i], base);
    struct regs r = {.vector = (uint64_t)-2,
                     .rip = base + h->e_entry,
                     .cs = 0x33,
                     .rflags = 0x202,
                     .rsp = build_stack(h, base, phdr),
                     .ss = 0x2b};

    thread_first(&r);
}
