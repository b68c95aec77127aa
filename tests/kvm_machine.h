/*
 * What the tests of the kvm engine share: a machine of one CPU, a serial port, an exit port and the
 * interrupt controllers; guests from guests/kvm and from bytes; kicks from another thread.
 */
#ifndef TESTS_KVM_MACHINE_H
#define TESTS_KVM_MACHINE_H

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
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
#define CODE       0x20000u /* guests that a test brings along */

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

static inline uint64_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    struct machine_ *m = opaque;

    if (port == 0x20 || port == 0x21 || port == 0xa0 || port == 0xa1)
        return pic_read(&m->cpus.irqchip, port);
    return UINT64_MAX >> (64 - 8 * size);
}

static inline void pio_write(void *opaque, uint16_t port, unsigned size, uint64_t val)
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

static inline uint64_t mmio_read(void *opaque, gpa_t gpa, unsigned size)
{
    struct machine_ *m = opaque;

    if (gpa - IOAPIC_BASE < 0x20)
        return ioapic_read(&m->cpus.irqchip, (uint32_t)(gpa - IOAPIC_BASE));
    return UINT64_MAX >> (64 - 8 * size);
}

static inline void mmio_write(void *opaque, gpa_t gpa, unsigned size, uint64_t val)
{
    struct machine_ *m = opaque;

    (void)size;
    m->mmio_writes++;
    if (gpa - IOAPIC_BASE < 0x20)
        ioapic_write(&m->cpus.irqchip, (uint32_t)(gpa - IOAPIC_BASE), (uint32_t)val);
}

static const struct machine_ops ops = {
    .pio_read = pio_read, .pio_write = pio_write, .mmio_read = mmio_read, .mmio_write = mmio_write};

static inline uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t tsc_hz(void)
{
    uint64_t n0 = now_ns(), t0 = __builtin_ia32_rdtsc(), n1, t1;

    do {
        n1 = now_ns();
        t1 = __builtin_ia32_rdtsc();
    } while (n1 - n0 < 2000000);
    return (t1 - t0) * 1000 / (n1 - n0) * 1000000;
}

static inline bool have_kvm(void)
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
static inline struct machine_ *make(void)
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

static inline void start(struct machine_ *m, const struct engine *e)
{
    const char *what = "?";
    int r = e->vm_init(&m->cpus, &what);

    cr_assert_eq(r, 0, "%s: %s: %s", e->name, what, strerror(-r));
    r = e->vcpu_init(m->v, &what);
    cr_assert_eq(r, 0, "%s: %s: %s", e->name, what, strerror(-r));
    m->engine = e;
    m->cpus.engine_kick = e->kick;
}

static inline void finish(struct machine_ *m)
{
    m->engine->vcpu_fini(m->v);
    m->engine->vm_fini(&m->cpus);
    m->engine = NULL;
}

static inline void destroy(struct machine_ *m)
{
    if (m->engine)
        finish(m);
    ram_destroy(&m->ram);
    free(m->v);
    free(m);
}

/* Run until the guest ends, or is kicked when once is true. */
static inline enum exit_reason run(struct machine_ *m, bool once)
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

static inline void expect_stop(struct machine_ *m, enum exit_reason r)
{
    const struct vcpu_exit *x = &m->v->exit;

    cr_assert_eq(r, EXIT_STOP, "%s: exit %d at %#llx: %s, output '%s', bytes %02x %02x %02x",
                 m->engine->name, r, (unsigned long long)x->rip, x->what ? x->what : "", m->out,
                 x->bytes[0], x->bytes[1], x->bytes[2]);
}

static inline void load_code(struct machine_ *m, const uint8_t *begin, const uint8_t *end)
{
    cr_assert_eq(ram_write(&m->ram, CODE, begin, (uint64_t)(end - begin)), 0);
}

/* A multiboot guest: these are ELF32 files of our own making. */
static inline void load_guest(struct machine_ *m, const char *name, const char *cmdline)
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

struct kicker {
    struct vcpu *v;
    unsigned times, delay_us;
    pthread_t thread;
};

static inline void *kicker_thread(void *arg)
{
    struct kicker *k = arg;

    for (unsigned i = 0; i < k->times; i++) {
        usleep(k->delay_us);
        vcpu_kick(k->v);
    }
    return NULL;
}

static inline void kick_later(struct kicker *k, struct vcpu *v, unsigned times, unsigned delay_us)
{
    *k = (struct kicker){.v = v, .times = times, .delay_us = delay_us};
    cr_assert_eq(pthread_create(&k->thread, NULL, kicker_thread, k), 0);
}

#endif
