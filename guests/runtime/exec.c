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
    /* The rest of the last file page is the next thing in the file. */
    if (!err && p->p_filesz && p->p_memsz > p->p_filesz && prot & PROT_WRITE &&
        (at + p->p_filesz) % PAGE)
        err = clear_out(at + p->p_filesz, least(file_end, at + p->p_memsz) - (at + p->p_filesz));
    if (err)
        refuse("it does not fit in memory: give more with -m");
    return end;
}

struct builder {
    uint64_t sp;
};

static uint64_t push(struct builder *b, const void *src, size_t n)
{
    b->sp -= n;
    if (copy_out(b->sp, src, n))
        refuse("its arguments do not fit on the stack");
    return b->sp;
}

static void add_aux(uint64_t type, uint64_t value)
{
    saved_auxv[saved_auxv_bytes / 8] = type;
    saved_auxv[saved_auxv_bytes / 8 + 1] = value;
    saved_auxv_bytes += 16;
}

static uint32_t cpuid_edx(void)
{
    uint32_t a = 1, b, c, d;

    __asm__("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    return d;
}

/* argc, argv, NULL, envp, NULL, auxv; RSP is 16-aligned at argc. */
static uint64_t build_stack(const Elf64_Ehdr *h, uint64_t base, uint64_t phdr)
{
    const char *strings = kva(boot.args_gpa);
    uint64_t n = boot.argc + boot.envc, names, text, words, at;
    struct builder b = {stack_top - 8};

    if (vm_map(stack_top - STACK_SIZE, STACK_SIZE, PROT_READ | PROT_WRITE, false, NULL, 0,
               "[stack]"))
        refuse("too little memory: give more with -m");
    names = push(&b, program_path, length(program_path) + 1);
    text = push(&b, strings, boot.args_len);
    at = push(&b, "x86_64", 7);
    uint64_t random = push(&b, boot.auxv_seed, sizeof boot.auxv_seed);

    add_aux(AT_HWCAP, cpuid_edx());
    add_aux(AT_PAGESZ, PAGE);
    add_aux(AT_CLKTCK, 100);
    add_aux(AT_PHDR, phdr);
    add_aux(AT_PHENT, sizeof(Elf64_Phdr));
    add_aux(AT_PHNUM, h->e_phnum);
    add_aux(AT_BASE, 0);
    add_aux(AT_FLAGS, 0);
    add_aux(AT_ENTRY, base + h->e_entry);
    add_aux(AT_UID, 0);
    add_aux(AT_EUID, 0);
    add_aux(AT_GID, 0);
    add_aux(AT_EGID, 0);
    add_aux(AT_SECURE, 0);
    add_aux(AT_RANDOM, random);
    add_aux(AT_HWCAP2, 0);
    add_aux(AT_EXECFN, names);
    add_aux(AT_PLATFORM, at);
    add_aux(AT_MINSIGSTKSZ, fpu_bytes + 1024);
    add_aux(AT_NULL, 0);

    words = 1 + n + 2 + saved_auxv_bytes / 8;
    b.sp = (b.sp - words * 8) & ~15ull;
    uint64_t sp = b.sp, out = sp + 8;

    arg_start = text;
    if (copy_out(sp, &boot.argc, 8))
        refuse("its arguments do not fit on the stack");
    for (uint64_t i = 0; i <= n; i++) {
        static const uint64_t zero;

        if (i == boot.argc) {
            arg_end = env_start = text;
            copy_out(out, &zero, 8);
            out += 8;
        }
        if (i == n)
            break;
        copy_out(out, &text, 8);
        out += 8;
        size_t len = length(strings) + 1;

        strings += len;
        text += len;
    }
    env_end = text;
    out += 8;
    copy_out(out, saved_auxv, saved_auxv_bytes);
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
    struct regs r = {.vector = (uint64_t)-2,
                     .rip = base + h->e_entry,
                     .cs = 0x33,
                     .rflags = 0x202,
                     .rsp = build_stack(h, base, phdr),
                     .ss = 0x2b};

    thread_first(&r);
}
