/*
 * --dumpcore DIR: what a Solo5 unikernel left when it aborted, as an ELF core file that gdb reads
 * with the image: its registers (those of the trap, where its handler passed them on) and memory.
 *
 * The I/O thread writes it once the vCPU has stopped. Its filter lets it open files then, and
 * Landlock keeps it to DIR, as with --share.
 */
#include "monitor/hvt.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/procfs.h>
#include <sys/user.h>
#include <unistd.h>

int hvt_core_open(struct machine *m)
{
    const char *dir = m->cfg->dumpcore;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || faccessat(fd, ".", W_OK, 0)) {
        msg_error("--dumpcore %s: cannot write there: %s", dir, strerror(errno));
        return STATUS_FAILURE;
    }
    m->hvt->dump_fd = fd;
    return 0;
}

static void put_registers(const struct machine *m, struct user_regs_struct *r)
{
    const struct cpu *c = &m->cpus.vcpu[0]->cpu;
    struct hvt_trap t;

    *r = (struct user_regs_struct){
        .rax = c->gpr[RAX],
        .rbx = c->gpr[RBX],
        .rcx = c->gpr[RCX],
        .rdx = c->gpr[RDX],
        .rsi = c->gpr[RSI],
        .rdi = c->gpr[RDI],
        .rbp = c->gpr[RBP],
        .rsp = c->gpr[RSP],
        .r8 = c->gpr[R8],
        .r9 = c->gpr[R9],
        .r10 = c->gpr[R10],
        .r11 = c->gpr[R11],
        .r12 = c->gpr[R12],
        .r13 = c->gpr[R13],
        .r14 = c->gpr[R14],
        .r15 = c->gpr[R15],
        .rip = c->rip,
        .eflags = c->rflags,
        .cs = c->seg[SEG_CS].sel,
        .ss = c->seg[SEG_SS].sel,
        .ds = c->seg[SEG_DS].sel,
        .es = c->seg[SEG_ES].sel,
        .fs = c->seg[SEG_FS].sel,
        .gs = c->seg[SEG_GS].sel,
        .fs_base = c->seg[SEG_FS].base,
        .gs_base = c->seg[SEG_GS].base,
    };
    if (m->hvt->trap && !ram_read(&m->ram, m->hvt->trap, &t, sizeof t)) {
        r->rip = t.rip;
        r->cs = t.cs;
        r->eflags = t.rflags;
        r->rsp = t.rsp;
        r->ss = t.ss;
    }
}

struct head {
    Elf64_Ehdr elf;
    Elf64_Phdr note, memory;
    Elf64_Nhdr n;
    char name[8];
    struct elf_prstatus status;
} __attribute__((packed)); /* a note's parts are aligned to four bytes */

static void put_head(const struct machine *m, struct head *h)
{
    *h = (struct head){
        .elf = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT,
                            ELFOSABI_STANDALONE},
                .e_type = ET_CORE,
                .e_machine = EM_X86_64,
                .e_version = EV_CURRENT,
                .e_phoff = offsetof(struct head, note),
                .e_ehsize = sizeof(Elf64_Ehdr),
                .e_phentsize = sizeof(Elf64_Phdr),
                .e_phnum = 2},
        .note = {.p_type = PT_NOTE,
                 .p_offset = offsetof(struct head, n),
                 .p_filesz = sizeof *h - offsetof(struct head, n),
                 .p_align = 4},
        .memory = {.p_type = PT_LOAD,
                   .p_flags = PF_R | PF_W | PF_X,
                   .p_offset = PAGE_SIZE,
                   .p_filesz = m->ram.low,
                   .p_memsz = m->ram.low,
                   .p_align = PAGE_SIZE},
        .n = {.n_namesz = 5, .n_descsz = sizeof h->status, .n_type = NT_PRSTATUS},
        .name = "CORE",
    };
    struct user_regs_struct r;

    put_registers(m, &r);
    _Static_assert(sizeof r <= sizeof h->status.pr_reg, "both are the kernel's");
    memcpy(&h->status.pr_reg, &r, sizeof r);
}

static int write_at(int fd, const uint8_t *p, uint64_t len, uint64_t at)
{
    while (len) {
        ssize_t n = pwrite(fd, p, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -EIO;
        p += n;
        len -= (uint64_t)n;
        at += (uint64_t)n;
    }
    return 0;
}

/* The pages that were ever touched; the rest are holes. */
static int write_memory(const struct ram *ram, int fd, uint64_t *pages)
{
    static unsigned char there[HVT_PAGE / PAGE_SIZE];

    for (uint64_t at = 0; at < ram->low; at += HVT_PAGE) {
        if (mincore(ram->base + at, HVT_PAGE, there))
            return -errno;
        for (unsigned i = 0, n; i < HVT_PAGE / PAGE_SIZE; i += n) {
            for (n = 1; i + n < HVT_PAGE / PAGE_SIZE && (there[i] & 1) == (there[i + n] & 1); n++)
                continue;
            if (!(there[i] & 1))
                continue;
            uint64_t from = at + i * PAGE_SIZE;
            int err = write_at(fd, ram->base + from, n * PAGE_SIZE, PAGE_SIZE + from);

            if (err)
                return err;
            *pages += n;
        }
    }
    return ftruncate(fd, (off_t)(PAGE_SIZE + ram->low)) ? -errno : 0;
}

void hvt_core_write(struct machine *m)
{
    static struct head h;
    char name[64];
    uint64_t pages = 0;

    _Static_assert(sizeof h <= PAGE_SIZE, "memory begins at the next page");
    snprintf(name, sizeof name, "core.mayfly.%d", (int)getpid());
    int fd =
        openat(m->hvt->dump_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int err = fd < 0 ? -errno : 0;

    if (!err) {
        put_head(m, &h);
        err = write_at(fd, (const uint8_t *)&h, sizeof h, 0);
    }
    if (!err)
        err = write_memory(&m->ram, fd, &pages);
    if (err)
        msg_error("core %s/%s: %s", m->cfg->dumpcore, name, strerror(-err));
    else
        msg_error("core of the guest (%llu pages): %s/%s", (unsigned long long)pages,
                  m->cfg->dumpcore, name);
}
