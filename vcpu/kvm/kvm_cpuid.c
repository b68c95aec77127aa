/*
 * What the guest's CPUID says under kvm: the machine's one table (cpuid.c), so that a guest may
 * change engine, with every feature that this KVM does not offer taken out, and the part of KVM's
 * own paravirtual leaves that every engine has.
 */
#include "vcpu/kvm/kvm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include "vcpu/except.h"

/* KVM_GET_SUPPORTED_CPUID, asked once a process, and seldom that: see kvm_cpuid_cache.c. */
static struct {
    pthread_mutex_t lock;
    bool looked, placed; /* for the file; key and path are right */
    bool hardware;       /* the probe's verdict */
    bool done;
    bool keep; /* the file has less than this */
    struct kvm_cpuid_key key;
    char path[KVM_CPUID_PATH];
    struct kvm_cpuid_buf buf;
} supported = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int ask_kvm(int dev_fd)
{
    long r = 0;

    pthread_mutex_lock(&supported.lock);
    if (!supported.done) {
        supported.buf.head.nent = KVM_CPUID_ENTRIES;
        r = kvm_ioctl(dev_fd, KVM_GET_SUPPORTED_CPUID, &supported.buf);
        supported.done = r == 0;
    }
    pthread_mutex_unlock(&supported.lock);
    return (int)r;
}

static void *asker(void *dev_fd)
{
    ask_kvm((int)(intptr_t)dev_fd);
    return NULL;
}

/* Main thread. */
static void recall(void)
{
    if (supported.looked)
        return;
    supported.looked = true;
    supported.placed = kvm_cpuid_cache_path(supported.path, sizeof supported.path) &&
                       kvm_cpuid_key(&supported.key);
    if (!supported.placed)
        return;
    supported.done =
        kvm_cpuid_cache_load(supported.path, &supported.key, &supported.buf, &supported.hardware);
    supported.keep = !supported.done;
}

bool kvm_known_hardware(void)
{
    recall();
    return supported.hardware;
}

void kvm_note_hardware(void)
{
    recall();
    supported.keep = supported.placed && (supported.keep || !supported.hardware);
    supported.hardware = true;
}

void kvm_cpuid_prefetch(int dev_fd)
{
    pthread_t t;
    sigset_t all, old;

    recall();
    if (supported.done)
        return;
    /* A thread of its own asks while the VM is made. Signals are for others. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (!pthread_create(&t, NULL, asker, (void *)(intptr_t)dev_fd))
        pthread_detach(t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* On the thread of a vCPU, which may open files until it is confined. */
static void keep(void)
{
    pthread_mutex_lock(&supported.lock);
    if (supported.keep)
        kvm_cpuid_cache_save(supported.path, &supported.key, &supported.buf, supported.hardware);
    supported.keep = false;
    pthread_mutex_unlock(&supported.lock);
}

static const struct kvm_cpuid_entry2 *find(uint32_t leaf, uint32_t sub)
{
    const struct kvm_cpuid_buf *b = &supported.buf;

    for (unsigned i = 0; i < b->head.nent && i < KVM_CPUID_ENTRIES; i++)
        if (b->e[i].function == leaf &&
            (!(b->e[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || b->e[i].index == sub))
            return &b->e[i];
    return NULL;
}

/* Registers that are feature masks: what both have is offered. always: bits that KVM keeps itself
 * or that cost it nothing, and so does not list. */
static const struct {
    uint32_t leaf, sub;
    uint8_t reg; /* 0-3: EAX EBX ECX EDX */
    uint32_t always;
} masks[] = {
    {1, 0, 2, 1u << 31 | 1u << 27 | 1u << 24}, /* hypervisor; OSXSAVE follows CR4; TSC-deadline
                                                  comes with the in-kernel APIC */
    {1, 0, 3, 1u << 28},                       /* HTT: topology is ours to say */
    {6, 0, 0, 0},
    {7, 0, 1, 0},
    {7, 0, 2, 0},
    {7, 0, 3, 0},
    {7, 1, 0, 0},
    {7, 1, 3, 0},
    {7, 2, 3, 0},
    {0xd, 0, 0, 0},
    {0xd, 1, 0, 0},
    {0x80000001, 0, 2, 1u << 1}, /* CMP_LEGACY, likewise */
    {0x80000001, 0, 3, 0},
    {0x80000007, 0, 3, 0},
    {0x80000008, 0, 1, 0},
    {0x80000021, 0, 0, 0},
};

#define PV_SIGNATURE 0x40000000u
#define PV_FEATURES  0x40000001u
/* CLOCKSOURCE, NOP_IO_DELAY, CLOCKSOURCE2, CLOCKSOURCE_STABLE: what struct cpu can carry from one
 * engine to another. Async page faults, steal time and the rest have state that it has not. */
#define PV_PORTABLE (1u << 0 | 1u << 1 | 1u << 3 | 1u << 24)

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, unsigned reg)
{
    return reg == 0 ? &e->eax : reg == 1 ? &e->ebx : reg == 2 ? &e->ecx : &e->edx;
}

static void filter(struct kvm_cpuid_entry2 *e)
{
    const struct kvm_cpuid_entry2 *k = find(e->function, e->index);
    struct kvm_cpuid_entry2 none = {0};

    for (unsigned i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        if (masks[i].leaf != e->function || masks[i].sub != e->index)
            continue;
        struct kvm_cpuid_entry2 have = k ? *k : none;

        *reg_of(e, masks[i].reg) &= *reg_of(&have, masks[i].reg) | masks[i].always;
    }
    if (e->function == PV_FEATURES)
        e->eax &= k ? k->eax & PV_PORTABLE : 0;
    /* Physical address width: a wider one would let the guest set bits that KVM calls reserved. */
    if (e->function == 0x80000008 && k && (e->eax & 0xff) > (k->eax & 0xff))
        e->eax = (e->eax & ~0xffu) | (k->eax & 0xff);
}

static bool has_subleaves(uint32_t leaf)
{
    switch (leaf) {
    case 4:
    case 7:
    case 0xb:
    case 0xd:
    case 0xf:
    case 0x10:
    case 0x12:
    case 0x14:
    case 0x17:
    case 0x18:
    case 0x1d:
    case 0x1e:
    case 0x1f:
    case 0x24:
    case 0x8000001d:
        return true;
    }
    return false;
}

/* A subleaf that is 0 need not be said: KVM answers so for those of a leaf that it was told of.
 * Some KVMs take a CPUID of their own for each that they are told. */
static bool needless(const struct kvm_cpuid_entry2 *e)
{
    return e->index && !(e->eax | e->ebx | e->ecx | e->edx);
}

/* As long as the machine's table can be. */
struct cpuid_list {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 e[sizeof((struct cpuid_table *)0)->leaf / sizeof(struct cpuid_leaf)];
};

/* From the machine's table, as this vCPU sees it. */
static void from_table(const struct vcpu *v, struct cpuid_list *out)
{
    const struct cpuid_table *t = v->vm->cpuid;

    for (unsigned i = 0; i < t->n && out->head.nent < sizeof out->e / sizeof out->e[0]; i++) {
        struct kvm_cpuid_entry2 *e = &out->e[out->head.nent++];
        uint32_t r[4];

        cpu_cpuid(v, t->leaf[i].leaf, t->leaf[i].sub, r);
        *e = (struct kvm_cpuid_entry2){
            .function = t->leaf[i].leaf,
            .index = t->leaf[i].sub,
            .flags = has_subleaves(t->leaf[i].leaf) ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = r[0],
            .ebx = r[1],
            .ecx = r[2],
            .edx = r[3],
        };
        filter(e);
        out->head.nent -= needless(e);
    }
}

int kvm_cpuid_set(struct vcpu *v, const char **what)
{
    struct cpuid_list out;
    int r;

    if (!v->vm->cpuid) {
        *what = "the machine's CPUID table";
        return -EINVAL;
    }
    *what = "KVM_GET_SUPPORTED_CPUID";
    r = ask_kvm(v->vm->kvm->dev_fd);
    if (r)
        return r;
    keep();
    out.head = (struct kvm_cpuid2){0};
    from_table(v, &out);
    /* XSAVE components that the guest can have, so that the others are never live. */
    const struct kvm_cpuid_entry2 *xs = find(0xd, 0);

    v->kvm->xstate_mask = (xs ? xs->eax & (uint32_t)XCR0_SUPPORTED : 0) | 3;
    *what = "KVM_SET_CPUID2";
    return (int)kvm_ioctl(v->kvm->fd, KVM_SET_CPUID2, &out);
}
