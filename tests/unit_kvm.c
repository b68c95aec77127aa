/*
 * The kvm engine on the guests of guests/kvm and some of its own, with a machine of a serial port,
 * an exit port and nothing else. The interpreter runs the same guests: same output.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "vcpu/except.h"
#include "vcpu/interp.h"
#include "vcpu/kvm/kvm.h"
/* After ours: it defines macros (PF_W) with names of paging/walk.h. */
#include <elf.h>

#define RAM_SIZE   (4 * MIB)
#define MB_INFO    0x10000u
#define MB_CMDLINE 0x11000u
#define CODE       0x20000u /* guests that this file brings along */
#define DOORBELL   0xd0000000u
#define STEPS_TEXT "20000"
#define STEPS      20000u

struct machine_ {
    struct ram ram;
    struct vm_cpus cpus;
    struct cpuid_table cpuid;
    struct vcpu *v, *table[1];
    const struct engine *engine;
    char out[4096];
    unsigned len;
    int status; /* -1: still running */
    unsigned mmio_writes;
    /* Kick when so many bytes were printed; 0 never. */
    unsigned kick_at;
    unsigned kicked_exits;
    /* Called after each byte printed. */
    void (*printed)(struct machine_ *m, char c);
};

static uint64_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    struct machine_ *m = opaque;

    if (port == 0x20 || port == 0x21 || port == 0xa0 || port == 0xa1)
        return pic_read(&m->cpus.irqchip, port);
    return UINT64_MAX >> (64 - 8 * size);
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint64_t val)
{
    struct machine_ *m = opaque;

    (void)size;
    if (port == 0x3f8 && m->len < sizeof m->out - 1) {
        m->out[m->len++] = (char)val;
        if (m->kick_at && m->len == m->kick_at)
            vcpu_kick(m->v);
        if (m->printed)
            m->printed(m, (char)val);
    } else if (port == 0xf4) {
        m->status = (int)(val & 0xff);
        m->cpus.stop = true;
        vcpu_kick(m->v);
    } else if (port == 0x20 || port == 0x21 || port == 0xa0 || port == 0xa1) {
        pic_write(&m->cpus.irqchip, port, (uint8_t)val);
    }
}

static uint64_t mmio_read(void *opaque, gpa_t gpa, unsigned size)
{
    struct machine_ *m = opaque;

    if (gpa - IOAPIC_BASE < 0x20)
        return ioapic_read(&m->cpus.irqchip, (uint32_t)(gpa - IOAPIC_BASE));
    return UINT64_MAX >> (64 - 8 * size);
}

static void mmio_write(void *opaque, gpa_t gpa, unsigned size, uint64_t val)
{
    struct machine_ *m = opaque;

    (void)size;
    m->mmio_writes++;
    if (gpa - IOAPIC_BASE < 0x20)
        ioapic_write(&m->cpus.irqchip, (uint32_t)(gpa - IOAPIC_BASE), (uint32_t)val);
}

static const struct machine_ops ops = {
    .pio_read = pio_read, .pio_write = pio_write, .mmio_read = mmio_read, .mmio_write = mmio_write};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t tsc_hz(void)
{
    uint64_t n0 = now_ns(), t0 = __builtin_ia32_rdtsc(), n1, t1;

    do {
        n1 = now_ns();
        t1 = __builtin_ia32_rdtsc();
    } while (n1 - n0 < 2000000);
    return (t1 - t0) * 1000 / (n1 - n0) * 1000000;
}

static bool have_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return false;
    close(fd);
    return true;
}

#define NEED_KVM()                        \
    do {                                  \
        if (!have_kvm()) {                \
            puts("skipped: no /dev/kvm"); \
            cr_skip_test("no /dev/kvm");  \
        }                                 \
    } while (0)

/* A machine of one CPU in the state of a multiboot loader, at eip CODE. */
static struct machine_ *make(void)
{
    struct machine_ *m = calloc(1, sizeof *m);
    struct vcpu *v = aligned_alloc(4096, (sizeof *v + 4095) & ~4095ul);

    cr_assert(m && v);
    memset(v, 0, sizeof *v);
    cr_assert_eq(ram_create(&m->ram, RAM_SIZE), 0);
    m->status = -1;
    m->v = m->table[0] = v;
    m->cpus.ram = &m->ram;
    m->cpus.ops = &ops;
    m->cpus.machine = m;
    m->cpus.vcpu = m->table;
    m->cpus.nvcpu = 1;
    m->cpus.kvm_fd = -1;
    m->cpus.maxphyaddr = 40;
    m->cpus.tsc_hz = tsc_hz();
    cpuid_build(&m->cpuid, &m->cpus);
    m->cpus.cpuid = &m->cpuid;
    irqchip_init(&m->cpus.irqchip, &m->cpus);
    v->vm = &m->cpus;
    v->poll_ptr = &v->poll_word;
    tlb_init(&v->tlb);
    cpu_reset(&v->cpu);
    lapic_reset(v);

    struct cpu *c = &v->cpu;

    for (unsigned i = 0; i < NSEG; i++)
        c->seg[i] = (struct seg){.sel = 0x10, .limit = 0xffffffff, .attr = 0xc093};
    c->seg[SEG_CS] = (struct seg){.sel = 8, .limit = 0xffffffff, .attr = 0xc09b};
    c->cr0 = CR0_PE | CR0_ET;
    c->rip = CODE;
    c->gpr[RAX] = 0x2badb002;
    c->gpr[RBX] = MB_INFO;
    c->gpr[RSP] = CODE;
    return m;
}

static void start(struct machine_ *m, const struct engine *e)
{
    const char *what = "?";
    int r = e->vm_init(&m->cpus, &what);

    cr_assert_eq(r, 0, "%s: %s: %s", e->name, what, strerror(-r));
    r = e->vcpu_init(m->v, &what);
    cr_assert_eq(r, 0, "%s: %s: %s", e->name, what, strerror(-r));
    m->engine = e;
    m->cpus.engine_kick = e->kick;
}

static void finish(struct machine_ *m)
{
    m->engine->vcpu_fini(m->v);
    m->engine->vm_fini(&m->cpus);
    m->engine = NULL;
}

static void destroy(struct machine_ *m)
{
    if (m->engine)
        finish(m);
    ram_destroy(&m->ram);
    free(m->v);
    free(m);
}

/* Run until the guest ends, or is kicked when once is true. */
static enum exit_reason run(struct machine_ *m, bool once)
{
    for (;;) {
        enum exit_reason r = m->engine->run(m->v);

        if (r == EXIT_KICKED)
            m->kicked_exits++;
        if (r == EXIT_HLT)
            vcpu_wait(m->v);
        else if (r != EXIT_KICKED || once)
            return r;
    }
}

static void expect_stop(struct machine_ *m, enum exit_reason r)
{
    const struct vcpu_exit *x = &m->v->exit;

    cr_assert_eq(r, EXIT_STOP, "%s: exit %d at %#llx: %s, output '%s', bytes %02x %02x %02x",
                 m->engine->name, r, (unsigned long long)x->rip, x->what ? x->what : "", m->out,
                 x->bytes[0], x->bytes[1], x->bytes[2]);
}

static void load_code(struct machine_ *m, const uint8_t *begin, const uint8_t *end)
{
    cr_assert_eq(ram_write(&m->ram, CODE, begin, (uint64_t)(end - begin)), 0);
}

/* A multiboot guest: these are ELF32 files of our own making. */
static void load_guest(struct machine_ *m, const char *name, const char *cmdline)
{
    static uint8_t file[1 << 20];
    char path[128];

    snprintf(path, sizeof path, "build/guests/kvm/%s", name);
    int fd = open(path, O_RDONLY);

    cr_assert(fd >= 0, "%s: %s (make it with: make %s)", path, strerror(errno), path);
    ssize_t n = read(fd, file, sizeof file);

    close(fd);
    cr_assert(n > (ssize_t)sizeof(Elf32_Ehdr));
    const Elf32_Ehdr *e = (const Elf32_Ehdr *)(const void *)file;

    for (unsigned i = 0; i < e->e_phnum; i++) {
        Elf32_Phdr p;

        memcpy(&p, file + e->e_phoff + i * sizeof p, sizeof p);
        if (p.p_type == PT_LOAD)
            cr_assert_eq(ram_write(&m->ram, p.p_paddr, file + p.p_offset, p.p_filesz), 0);
    }
    const uint32_t info[5] = {4, 0, 0, 0, MB_CMDLINE};

    ram_write(&m->ram, MB_INFO, info, sizeof info);
    ram_write(&m->ram, MB_CMDLINE, cmdline, strlen(cmdline) + 1);
    m->v->cpu.rip = e->e_entry;
}

/* What cpl3.S computes. */
static uint64_t checksum(uint64_t steps)
{
    uint64_t s = 1;

    while (steps--) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        s = s << 13 | s >> 51;
    }
    return s;
}

/* --- guests --- */

static struct machine_ *run_guest(const struct engine *e, const char *name, const char *cmdline)
{
    struct machine_ *m = make();

    load_guest(m, name, cmdline);
    start(m, e);
    expect_stop(m, run(m, false));
    cr_assert_eq(m->status, 0, "%s: status %d, output '%s'", name, m->status, m->out);
    return m;
}

Test(kvm, hello)
{
    NEED_KVM();
    struct machine_ *k = run_guest(&engine_kvm, "hello", "hello");
    struct machine_ *i = run_guest(&engine_interp, "hello", "hello");

    cr_assert_str_eq(k->out, "hello from CPL 0\n");
    cr_assert_str_eq(i->out, k->out);
    cr_assert_eq(k->v->stats.kvm_exits[KVM_EXIT_IO], k->len + 1);
    destroy(k);
    destroy(i);
}

Test(kvm, cpl3)
{
    char want[128];

    NEED_KVM();
    struct machine_ *k = run_guest(&engine_kvm, "cpl3", "cpl3 " STEPS_TEXT);
    struct machine_ *i = run_guest(&engine_interp, "cpl3", "cpl3 " STEPS_TEXT);

    snprintf(want, sizeof want, "cpl3: " STEPS_TEXT " steps, checksum %016llx\n",
             (unsigned long long)checksum(STEPS));
    cr_assert_str_eq(k->out, want);
    cr_assert_str_eq(i->out, want);
    destroy(k);
    destroy(i);
}

Test(kvm, cpl3_at_full_length)
{
    char want[128];

    NEED_KVM();
    struct machine_ *k = run_guest(&engine_kvm, "cpl3", "cpl3");

    snprintf(want, sizeof want, "cpl3: 100000000 steps, checksum %016llx\n",
             (unsigned long long)checksum(100000000));
    cr_assert_str_eq(k->out, want);
    destroy(k);
}

Test(kvm, exit_cost)
{
    unsigned cycles = 0, n = 0;

    NEED_KVM();
    struct machine_ *k = run_guest(&engine_kvm, "exits", "exits 50");

    cr_assert_eq(sscanf(k->out, "exit cost: %u TSC cycles, mean of %u OUTs", &cycles, &n), 2);
    cr_assert_eq(n, 50);
    cr_assert_gt(cycles, 0);
    cr_assert_geq(k->v->stats.kvm_exits[KVM_EXIT_IO], 51);
    destroy(k);
}

/* --- state --- */

#define DISTINCT(i) (0x1111111111111111u * (i) ^ 0x0123456789abcdefu)

/* 64-bit user code with a value of its own in every register that has one. */
static void distinct_state(struct cpu *c)
{
    for (unsigned i = 0; i < NGPR; i++)
        c->gpr[i] = DISTINCT(i + 1);
    for (unsigned i = 0; i < NSEG; i++)
        c->seg[i] = (struct seg){.sel = 0x23, .limit = 0xffffffff, .attr = 0xc0f3};
    c->seg[SEG_CS] = (struct seg){.sel = 0x2b, .limit = 0xffffffff, .attr = 0xa0fb};
    c->seg[SEG_FS].base = 0x7f0011223344;
    c->seg[SEG_GS].base = 0xffff888011223344;
    c->seg[SEG_DS] = (struct seg){.attr = SEG_NULL};
    c->ldtr = (struct seg){.attr = SEG_NULL};
    c->tr = (struct seg){.sel = 0x40, .base = 0xfffffe0000003000, .limit = 0x206f, .attr = 0x8b};
    c->gdtr = (struct dtr){.base = 0xfffffe0000001000, .limit = 0x7f};
    c->idtr = (struct dtr){.base = 0xfffffe0000000000, .limit = 0xfff};
    c->cpl = 3;
    c->rip = 0x401234;
    c->rflags = FL_R1 | FL_IF | FL_CF | FL_OF | FL_AC | FL_ID;
    c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    c->cr2 = 0x7fffdeadb000;
    c->cr3 = 0x3000;
    c->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    c->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    c->dr[0] = 0x401000;
    c->dr[3] = 0xffff888000001000;
    c->dr[7] = 0x400;
    c->star = 0x0023001000000000;
    c->lstar = 0xffffffff81000080;
    c->cstar = 0xffffffff81000100;
    c->sfmask = 0x257fd5;
    c->kernel_gs_base = 0xffff888000112233;
    c->sysenter_cs = 0x10;
    c->sysenter_esp = 0xfffffe0000004000;
    c->sysenter_eip = 0xffffffff81000200;
    c->pat = 0x0407050600070106;
    c->mtrr_phys[0] = 0xc0000000;
    c->mtrr_phys[1] = 0xffc0000800;
    c->tsc_offset = (uint64_t)-123456789012;
    c->nmi_blocked = true;
    for (unsigned i = 0; i < 16 * 16; i++) /* ST and XMM registers */
        c->xsave[i < 128 ? 32 + i / 16 * 16 + i % 10 : 32 + i] = (uint8_t)(i * 7 + 1);
}

#define SAME(field)                                                    \
    cr_assert_eq(got->field, want->field, #field ": %#llx, was %#llx", \
                 (unsigned long long)got->field, (unsigned long long)want->field)

static void same_segment(const struct seg *a, const struct seg *b, unsigned i)
{
    cr_assert_eq(a->attr, b->attr, "segment %u: attr %#x, was %#x", i, a->attr, b->attr);
    if (a->attr & SEG_NULL)
        return;
    cr_assert_eq(a->sel, b->sel, "segment %u", i);
    cr_assert_eq(a->base, b->base, "segment %u", i);
    cr_assert_eq(a->limit, b->limit, "segment %u", i);
}

static void same_cpu(const struct cpu *got, const struct cpu *want)
{
    for (unsigned i = 0; i < NGPR; i++)
        SAME(gpr[i]);
    for (unsigned i = 0; i < NSEG; i++)
        same_segment(&got->seg[i], &want->seg[i], i);
    same_segment(&got->ldtr, &want->ldtr, 6);
    same_segment(&got->tr, &want->tr, 7);
    SAME(rip);
    SAME(rflags);
    SAME(gdtr.base);
    SAME(gdtr.limit);
    SAME(idtr.base);
    SAME(idtr.limit);
    SAME(cr0);
    SAME(cr2);
    SAME(cr3);
    SAME(cr4);
    SAME(cr8);
    SAME(efer);
    SAME(xcr0);
    for (unsigned i = 0; i < 8; i++)
        if (i != 4 && i != 5)
            SAME(dr[i]);
    SAME(star);
    SAME(lstar);
    SAME(cstar);
    SAME(sfmask);
    SAME(kernel_gs_base);
    SAME(sysenter_cs);
    SAME(sysenter_esp);
    SAME(sysenter_eip);
    SAME(pat);
    SAME(misc_enable);
    SAME(mtrr_def_type);
    for (unsigned i = 0; i < 11; i++)
        SAME(mtrr_fixed[i]);
    for (unsigned i = 0; i < 16; i++)
        SAME(mtrr_phys[i]);
    SAME(tsc_offset);
    SAME(tsc_adjust);
    SAME(mcg_status);
    SAME(cpl);
    SAME(int_shadow);
    SAME(nmi_blocked);
    SAME(nmi_pending);
    SAME(halted);
    SAME(wait_for_sipi);
    cr_assert_arr_eq(got->xsave, want->xsave, 28);
    cr_assert_arr_eq(got->xsave + 32, want->xsave + 32, 416 - 32);
}

/* Import and export with no guest instruction between: the same. What KVM has no MSR for, or
 * rounds, would show here. */
static void round_trip(struct machine_ *m, struct cpu *want)
{
    const char *what = "?";
    int r = kvm_import(m->v, &what);

    /* KVM without VMX and SVM says so, rather than run something else. */
    if (r == -ENOTSUP && strstr(what, "TSC")) {
        m->v->cpu.tsc_offset = want->tsc_offset = 0;
        r = kvm_import(m->v, &what);
    }
    if (r == -ENOTSUP && strstr(what, "paging"))
        cr_skip_test("no 32-bit paging here");
    cr_assert_eq(r, 0, "%s: %s", what, strerror(-r));
    cr_assert(!kvm_stale(m->v));
    struct kvm_run *run = m->v->kvm->run;

    run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
    run->immediate_exit = 1;
    cr_assert_eq(kvm_ioctl(m->v->kvm->fd, KVM_RUN, NULL), -EINTR);
    memset(m->v->cpu.gpr, 0xee, sizeof m->v->cpu.gpr);
    m->v->cpu.lstar = m->v->cpu.cr2 = m->v->cpu.dr[0] = m->v->cpu.rip = 0xee;
    memset(m->v->cpu.xsave, 0xee, 512);
    cr_assert(kvm_stale(m->v));
    r = kvm_export(m->v, true, &what);
    cr_assert_eq(r, 0, "%s: %s", what, strerror(-r));
    cr_assert(!kvm_stale(m->v));
    same_cpu(&m->v->cpu, want);
}

Test(kvm_state, long_mode_user)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct cpu want;

    start(m, &engine_kvm);
    distinct_state(&m->v->cpu);
    want = m->v->cpu;
    round_trip(m, &want);
    destroy(m);
}

Test(kvm_state, pae_pdptes_come_from_the_state_not_from_memory)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct cpu want;

    start(m, &engine_kvm);
    if (!m->cpus.kvm->sregs2)
        cr_skip_test("no KVM_CAP_SREGS2");
    m->v->cpu.cr3 = 0x5000; /* zero there */
    m->v->cpu.cr4 = CR4_PAE;
    m->v->cpu.cr0 |= CR0_PG;
    for (unsigned i = 0; i < 4; i++)
        m->v->cpu.pdpte[i] = 0x6001 + 0x1000 * i;
    want = m->v->cpu;
    round_trip(m, &want);
    cr_assert_arr_eq(m->v->cpu.pdpte, want.pdpte, sizeof want.pdpte);
    destroy(m);
}

/* Every combination of what an interrupted CPU can be in the middle of. */
Test(kvm_state, events)
{
    NEED_KVM();
    struct machine_ *m = make();

    start(m, &engine_kvm);
    for (unsigned bits = 0; bits < 64; bits++) {
        struct cpu want;

        m->v->cpu.int_shadow = bits & 1;
        m->v->cpu.rflags = FL_R1 | (bits & 2 ? FL_IF : 0);
        m->v->cpu.nmi_blocked = bits & 4;
        m->v->cpu.nmi_pending = bits & 8;
        m->v->cpu.halted = bits & 48;
        m->v->cpu.wait_for_sipi = bits & 32;
        want = m->v->cpu;
        round_trip(m, &want);
    }
    destroy(m);
}

Test(kvm_state, lapic)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct lapic *l = &m->v->lapic;
    struct cpu want = m->v->cpu;

    start(m, &engine_kvm);
    cr_assert_eq(l->lvt_lint0 & 0x10700, 0x700, "the boot processor takes the 8259 through LINT0");
    l->svr = 0x1ff;
    l->tpr = 0x30;
    l->ldr = 0x01000000;
    l->lvt_timer = 0x20000 | 0x10000 | 0xec; /* periodic, masked */
    l->lvt_error = 0xfe;
    l->timer_divide = 0xb; /* by 1 */
    l->timer_icr = 3000000000u;
    l->timer_start = vcpu_tsc(m->v) - m->cpus.tsc_hz; /* a second ago */
    l->next_tsc = __builtin_ia32_rdtsc() + 2 * m->cpus.tsc_hz;
    l->isr[2] = 1u << 5;
    l->irr[1] = 1u << 9;
    l->irr[7] = 1u << 1;
    l->irr_level[7] = 1u << 1;
    m->v->cpu.cr8 = want.cr8 = 3;
    uint64_t start_ = l->timer_start, next = l->next_tsc;

    round_trip(m, &want);
    cr_assert_eq(l->svr, 0x1ff);
    cr_assert_eq(l->tpr, 0x30);
    cr_assert_eq(l->ldr, 0x01000000);
    cr_assert_eq(l->lvt_timer, 0x300ec);
    cr_assert_eq(l->lvt_lint0 & 0x107ff, 0x700);
    cr_assert_eq(l->timer_icr, 3000000000u);
    cr_assert_eq(l->isr[2], 1u << 5);
    cr_assert_eq(l->irr[1], 1u << 9);
    cr_assert_eq(l->irr[7], 1u << 1);
    cr_assert_eq(l->irr_level[7], 1u << 1);
    cr_assert_eq(l->irr_level[1], 0);
    /* The count went on meanwhile, at the same rate: both ends within 50 ms. */
    int64_t d0 = (int64_t)(l->timer_start - start_), d1 = (int64_t)(l->next_tsc - next);
    int64_t tol = (int64_t)m->cpus.tsc_hz / 20;

    cr_assert(d0 > -tol && d0 < tol, "start moved by %lld", (long long)d0);
    cr_assert(d1 > -tol && d1 < tol, "end moved by %lld", (long long)d1);
    destroy(m);
}

Test(kvm_state, x2apic_and_deadline)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct lapic *l = &m->v->lapic;
    struct cpu want = m->v->cpu;

    start(m, &engine_kvm);
    l->base_msr = 0xfee00d00;
    l->svr = 0x1ff;
    l->ldr = 1;
    l->lvt_timer = 0x400ec;
    uint64_t due = vcpu_tsc(m->v) + 10 * m->cpus.tsc_hz;

    l->tsc_deadline = due;
    l->next_tsc = due - m->v->cpu.tsc_offset;
    round_trip(m, &want);
    cr_assert_eq(l->base_msr, 0xfee00d00);
    cr_assert_eq(l->id, 0);
    cr_assert_eq(l->lvt_timer, 0x400ec);
    cr_assert_eq(l->tsc_deadline, due);
    cr_assert_eq(l->next_tsc, due - m->v->cpu.tsc_offset);
    destroy(m);
}

/* --- kicks and changes of engine --- */

/* Guests that are too small for a file, in 32-bit flat code without addresses of their own. */
__asm__(".section .rodata\n"
        ".code32\n"
        "spin_begin: jmp spin_begin\n"
        "spin_end:\n"
        "crash_begin: ud2\n"
        "crash_end:\n"
        "halt_begin: cli; hlt; jmp halt_begin\n"
        "halt_end:\n"
        /* REP OUTSB of 600 bytes at 0x40000. */
        "outs_begin: mov $0x40000, %esi; mov $600, %ecx; mov $0x3f8, %edx; cld; rep outsb\n"
        " mov $0xf4, %edx; xor %eax, %eax; out %al, %dx\n"
        "1: jmp 1b\n"
        "outs_end:\n"
        ".code64\n"
        ".text\n");
extern const uint8_t spin_begin[], spin_end[], crash_begin[], crash_end[], halt_begin[], halt_end[],
    outs_begin[], outs_end[];

struct kicker {
    struct vcpu *v;
    unsigned times, delay_us;
    pthread_t thread;
};

static void *kicker_thread(void *arg)
{
    struct kicker *k = arg;

    for (unsigned i = 0; i < k->times; i++) {
        usleep(k->delay_us);
        vcpu_kick(k->v);
    }
    return NULL;
}

static void kick_later(struct kicker *k, struct vcpu *v, unsigned times, unsigned delay_us)
{
    *k = (struct kicker){.v = v, .times = times, .delay_us = delay_us};
    cr_assert_eq(pthread_create(&k->thread, NULL, kicker_thread, k), 0);
}

Test(kvm_kick, ends_an_endless_loop, .timeout = 20)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct kicker k;

    load_code(m, spin_begin, spin_end);
    start(m, &engine_kvm);
    kick_later(&k, m->v, 1, 2000);
    cr_assert_eq(run(m, true), EXIT_KICKED);
    pthread_join(k.thread, NULL);
    cr_assert_eq(m->v->cpu.rip, CODE);
    cr_assert_eq(m->v->cpu.gpr[RSP], CODE);
    cr_assert_eq(m->v->cpu.gpr[RAX], 0x2badb002);
    destroy(m);
}

/* A kick before run() is not lost, and one is one. */
Test(kvm_kick, before_the_run, .timeout = 20)
{
    NEED_KVM();
    struct machine_ *m = make();

    load_code(m, spin_begin, spin_end);
    start(m, &engine_kvm);
    for (unsigned i = 0; i < 100; i++) {
        vcpu_kick(m->v);
        cr_assert_eq(run(m, true), EXIT_KICKED);
    }
    m->cpus.stop = true;
    vcpu_kick(m->v);
    cr_assert_eq(run(m, true), EXIT_STOP);
    destroy(m);
}

/* At every point of the way in and out: none may be lost, or the test hangs at the last. */
Test(kvm_kick, many, .timeout = 60)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct kicker k;

    load_code(m, spin_begin, spin_end);
    start(m, &engine_kvm);
    kick_later(&k, m->v, 2000, 0);
    while (run(m, true) == EXIT_KICKED && m->v->stats.kicks < 100)
        ;
    pthread_join(k.thread, NULL);
    while (m->v->kicked)
        run(m, true);
    kick_later(&k, m->v, 1, 1000);
    cr_assert_eq(run(m, true), EXIT_KICKED);
    pthread_join(k.thread, NULL);
    destroy(m);
}

Test(kvm_kick, a_halted_cpu, .timeout = 20)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct kicker k;

    load_code(m, halt_begin, halt_end);
    start(m, &engine_kvm);
    kick_later(&k, m->v, 1, 20000);
    cr_assert_eq(run(m, true), EXIT_KICKED);
    pthread_join(k.thread, NULL);
    cr_assert(m->v->cpu.halted);
    cr_assert_eq(m->v->cpu.rip, CODE + 2);
    destroy(m);
}

/* The other engine goes on where KVM was kicked: in the middle of an OUT. */
Test(kvm_change, at_every_byte_of_hello)
{
    NEED_KVM();
    for (unsigned at = 1; at <= 17; at++) {
        struct machine_ *m = make();

        load_guest(m, "hello", "hello");
        m->kick_at = at;
        start(m, &engine_kvm);
        cr_assert_eq(run(m, true), EXIT_KICKED);
        cr_assert_eq(m->len, at);
        finish(m);
        start(m, &engine_interp);
        expect_stop(m, run(m, false));
        cr_assert_eq(m->status, 0);
        cr_assert_str_eq(m->out, "hello from CPL 0\n");
        destroy(m);
    }
}

/* To the interpreter and back to a new VM, again and again, at CPL 3 and at CPL 0. */
Test(kvm_change, to_and_fro)
{
    char want[128];
    unsigned changes = 0;

    NEED_KVM();
    struct machine_ *m = make();

    load_guest(m, "cpl3", "cpl3 3000000");
    for (bool end = false; !end; changes++) {
        struct kicker k;

        start(m, &engine_kvm);
        kick_later(&k, m->v, changes < 4, 500);
        end = run(m, true) == EXIT_STOP;
        if (end)
            m->cpus.stop = true;
        pthread_join(k.thread, NULL);
        vcpu_take_kick(m->v);
        finish(m);
        if (end)
            break;
        start(m, &engine_interp);
        for (unsigned i = 0; i < 3000 && !m->cpus.stop; i++)
            if (interp_step(m->v) == STEP_EXIT)
                expect_stop(m, m->v->exit.reason);
        fpu_put(m->v);
        finish(m);
        end = m->cpus.stop;
    }
    snprintf(want, sizeof want, "cpl3: 3000000 steps, checksum %016llx\n",
             (unsigned long long)checksum(3000000));
    cr_assert_str_eq(m->out, want, "after %u changes: '%s'", changes, m->out);
    cr_assert_eq(m->status, 0);
    destroy(m);
}

/* A string instruction that is kicked goes on with the rest. */
Test(kvm_change, rep_outs)
{
    NEED_KVM();
    for (unsigned at = 1; at < 600; at += 97) {
        struct machine_ *m = make();
        char text[601];

        for (unsigned i = 0; i < 600; i++)
            text[i] = (char)('a' + i % 23);
        text[600] = 0;
        ram_write(&m->ram, 0x40000, text, 600);
        load_code(m, outs_begin, outs_end);
        m->kick_at = at;
        start(m, &engine_kvm);
        enum exit_reason r = run(m, true);

        if (r == EXIT_KICKED) {
            finish(m);
            start(m, &engine_interp);
            r = run(m, false);
        }
        expect_stop(m, r);
        cr_assert_str_eq(m->out, text);
        destroy(m);
    }
}

Test(kvm, triple_fault)
{
    NEED_KVM();
    struct machine_ *m = make();

    m->v->cpu.idtr = (struct dtr){.base = 0, .limit = 0};
    load_code(m, crash_begin, crash_end);
    start(m, &engine_kvm);
    cr_assert_eq(run(m, false), EXIT_SHUTDOWN);
    cr_assert_eq(m->v->exit.reason, EXIT_SHUTDOWN);
    destroy(m);
}

/* --- interrupts --- */

/* Each handler asks for the next interrupt by a byte on the serial port and halts; none returns
 * (not every KVM emulates IRET at CPL 0). 0x20: the 8259 by ExtINT. 0x40: a message. 0x41: IOAPIC
 * pin 9, level. 0x42: pin 10, edge, from an irqfd. */
__asm__(".section .rodata\n"
        ".code32\n"
        ".macro say c\n mov $\\c, %al\n out %al, %dx\n .endm\n"
        ".macro wait_\n mov $0x20000, %esp\n sti\n 1: hlt\n jmp 1b\n .endm\n"
        ".macro pic port, val\n mov $\\val, %al\n out %al, $\\port\n .endm\n"
        "irq_begin:\n"
        " pic 0x20, 0x11\n pic 0x21, 0x20\n pic 0x21, 4\n pic 0x21, 1\n pic 0x21, 0xfe\n"
        " mov $0x3f8, %edx\n say 'r'\n wait_\n"
        "irq_20: say 'p'\n pic 0x20, 0x20\n movl $0x1ff, 0xfee000f0\n say 'm'\n wait_\n"
        "irq_40: say 'M'\n movl $0, 0xfee000b0\n"
        " movl $0x23, 0xfec00000\n movl $0, 0xfec00010\n"
        " movl $0x22, 0xfec00000\n movl $0x8041, 0xfec00010\n say 'l'\n wait_\n"
        "irq_41: say 'L'\n movl $0, 0xfee000b0\n"
        " movl $0x25, 0xfec00000\n movl $0, 0xfec00010\n"
        " movl $0x24, 0xfec00000\n movl $0x42, 0xfec00010\n say 'f'\n wait_\n"
        "irq_42: say 'F'\n movl $0, 0xfee000b0\n"
        " movl $1, 0xd0000000\n"
        " xor %eax, %eax\n out %al, $0xf4\n 1: jmp 1b\n"
        "irq_end:\n"
        ".code64\n"
        ".text\n");
extern const uint8_t irq_begin[], irq_20[], irq_40[], irq_41[], irq_42[], irq_end[];
static int irqfd = -1;

static void raise_for(struct machine_ *m, char c)
{
    struct vm_cpus *vm = &m->cpus;
    uint64_t one = 1;

    switch (c) {
    case 'r':
        irq_pulse(vm, 0);
        break;
    case 'm':
        apic_deliver(vm, 0, false, 0, 0x40, false, NULL);
        break;
    case 'l':
        irq_set(vm, 9, true);
        break;
    case 'f':
        if (m->engine == &engine_kvm)
            cr_assert_eq(write(irqfd, &one, sizeof one), 8);
        else
            irq_pulse(vm, 10);
    }
}

struct raiser {
    struct machine_ *m;
    char c;
};

static void *raiser_thread(void *arg)
{
    struct raiser *r = arg;

    usleep(3000); /* likely in HLT by then; right in either case */
    raise_for(r->m, r->c);
    free(r);
    return NULL;
}

static void raise_at_once(struct machine_ *m, char c)
{
    raise_for(m, c);
    if (c == 'L') /* the device is served: the pin goes low before the EOI */
        irq_set(&m->cpus, 9, false);
}

static void raise_later(struct machine_ *m, char c)
{
    pthread_t t;

    if (c == 'L')
        irq_set(&m->cpus, 9, false);
    if (!strchr("rmlf", c))
        return;
    struct raiser *r = malloc(sizeof *r);

    *r = (struct raiser){m, c};
    cr_assert_eq(pthread_create(&t, NULL, raiser_thread, r), 0);
    pthread_detach(t);
}

static void gate(struct machine_ *m, unsigned vector, const uint8_t *handler)
{
    uint32_t at = CODE + (uint32_t)(handler - irq_begin);
    uint64_t d = (at & 0xffff) | 8u << 16 | 0x8e00ull << 32 | (uint64_t)(at >> 16) << 48;

    ram_write(&m->ram, 0x30000 + vector * 8, &d, 8);
}

static struct machine_ *irq_machine(void)
{
    static const uint64_t gdt[3] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
    struct machine_ *m = make();

    load_code(m, irq_begin, irq_end);
    gate(m, 0x20, irq_20);
    gate(m, 0x40, irq_40);
    gate(m, 0x41, irq_41);
    gate(m, 0x42, irq_42);
    ram_write(&m->ram, 0x31000, gdt, sizeof gdt);
    m->v->cpu.idtr = (struct dtr){.base = 0x30000, .limit = 0x7ff};
    m->v->cpu.gdtr = (struct dtr){.base = 0x31000, .limit = sizeof gdt - 1};
    return m;
}

static void interrupts(void (*printed)(struct machine_ *m, char c))
{
    int bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    uint64_t count = 0;
    struct machine_ *m = irq_machine();

    m->printed = printed;
    start(m, &engine_kvm);
    irqfd = eventfd(0, EFD_CLOEXEC);
    cr_assert_eq(kvm_irqfd(&m->cpus, 10, irqfd, false), 0);
    cr_assert_eq(kvm_irqfd(&m->cpus, IOAPIC_PINS, irqfd, false), -EINVAL);
    cr_assert_eq(kvm_ioeventfd(&m->cpus, DOORBELL, 0, bell, false), 0);
    cr_assert_eq(kvm_ioeventfd(&m->cpus, DOORBELL, 0, bell, false), -EEXIST);
    expect_stop(m, run(m, false));
    cr_assert_str_eq(m->out, "rpmMlLfF");
    cr_assert_eq(m->v->stats.kvm_exits[KVM_EXIT_IOAPIC_EOI], 1);
    cr_assert_eq(m->cpus.irqchip.ioapic.redir[9] & 0x4000, 0, "remote IRR went with the EOI");
    cr_assert_eq(read(bell, &count, sizeof count), 8);
    cr_assert_eq(count, 1);
    cr_assert_eq(m->mmio_writes, 8, "the doorbell did not leave the kernel: %u", m->mmio_writes);
    cr_assert_eq(kvm_irqfd(&m->cpus, 10, irqfd, true), 0);
    cr_assert_eq(kvm_ioeventfd(&m->cpus, DOORBELL, 0, bell, true), 0);
    destroy(m);
    close(irqfd);
    close(bell);
}

Test(kvm_irq, at_once, .timeout = 20)
{
    NEED_KVM();
    interrupts(raise_at_once);
}

Test(kvm_irq, while_halted, .timeout = 20)
{
    NEED_KVM();
    interrupts(raise_later);
}

/* Interrupts that one engine was sent reach the guest under the other. */
Test(kvm_irq, across_a_change_of_engine, .timeout = 20)
{
    NEED_KVM();
    for (unsigned at = 1; at <= 7; at++) {
        struct machine_ *m = irq_machine();

        m->printed = raise_at_once;
        m->kick_at = at;
        start(m, &engine_kvm);
        irqfd = eventfd(0, EFD_CLOEXEC);
        cr_assert_eq(kvm_irqfd(&m->cpus, 10, irqfd, false), 0);
        cr_assert_eq(run(m, true), EXIT_KICKED);
        close(irqfd);
        finish(m);
        start(m, &engine_interp);
        expect_stop(m, run(m, false));
        cr_assert_str_eq(m->out, "rpmMlLfF", "changed after byte %u: '%s'", at, m->out);
        destroy(m);
    }
}

/* KVM was handed the 8259's vector and is kicked before it could inject it: it is not lost. */
Test(kvm_irq, taken_and_kicked, .timeout = 20)
{
    NEED_KVM();
    for (unsigned again = 0; again < 2; again++) {
        struct machine_ *m = irq_machine();
        struct kicker k;
        const char *what = "?";

        start(m, &engine_kvm);
        kick_later(&k, m->v, 1, 20000);
        cr_assert_eq(run(m, true), EXIT_KICKED);
        pthread_join(k.thread, NULL);
        cr_assert_str_eq(m->out, "r");
        cr_assert(m->v->cpu.halted);
        irq_pulse(&m->cpus, 0);
        cr_assert_eq(kvm_irq_before_run(m->v, &what), 0);
        cr_assert(m->v->kvm->ext_injected);
        vcpu_kick(m->v);
        cr_assert_eq(run(m, true), EXIT_KICKED);
        cr_assert_eq(m->v->cpu.rip, CODE + (uint64_t)(irq_20 - irq_begin), "delivered");
        m->printed = raise_at_once;
        if (again) { /* the same engine takes it up again */
            m->engine->vcpu_fini(m->v);
            m->engine->vm_fini(&m->cpus);
            start(m, &engine_kvm);
            irqfd = eventfd(0, EFD_CLOEXEC);
            cr_assert_eq(kvm_irqfd(&m->cpus, 10, irqfd, false), 0);
        } else {
            finish(m);
            start(m, &engine_interp);
        }
        expect_stop(m, run(m, false));
        cr_assert_str_eq(m->out, "rpmMlLfF");
        destroy(m);
    }
}

/* --- the probe --- */

Test(probe, says_something)
{
    struct probe p;

    kvm_probe(&p);
    cr_assert_not_null(p.step);
    if (p.kind == KVM_NONE)
        cr_assert_neq(p.err, 0, "%s", p.step);
    else
        cr_assert_eq(p.api_version, 12);
}

/* The guest and CPUID's short cut agree. */
Test(probe, guest_agrees)
{
    NEED_KVM();
    struct probe p, g = {0};
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    kvm_probe(&p);
    kvm_probe_guest(fd, &g);
    close(fd);
    printf("probe: %s; guest: %llu.%02llu ns an instruction, %llu us in all\n", p.step,
           (unsigned long long)g.ns_per_insn_x100 / 100,
           (unsigned long long)g.ns_per_insn_x100 % 100, (unsigned long long)g.probe_ns / 1000);
    cr_assert_eq(g.kind, p.kind, "%s", g.step);
    cr_assert_eq(g.err, 0);
    cr_assert_gt(g.probe_ns, 0);
}
