/*
 * What kind of KVM this host has. A KVM on nested page tables without VMX or SVM runs CPL 3
 * natively and interprets CPL 0, a thousand times slower: a kernel is quicker under the translator
 * there.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "paging/copy.h"
#include "vcpu/engine.h"
#include "vcpu/hostcpu.h"
#include "vcpu/kvm/kvm.h"

/* The guest: dec ecx; jnz; out 0x80; and around again. 2 n + 1 instructions an exit. */
static const uint8_t guest_code[] = {0x49, 0x75, 0xfd, 0xe6, 0x80, 0xeb, 0xf9};
#define GUEST_GPA  0x1000u
#define GUEST_OUT  (GUEST_GPA + 3)
#define LOOP_SHORT 1u
#define LOOP_LONG  26u /* 50 instructions more */
#define RUNS       3u

/* Hardware needs under 1 ns an instruction, an interpreter around 1000; the noise of an exit,
 * spread over 50, is some tens at worst. */
#define SLOW_NS_X100 5000u

struct probe_vm {
    int vm_fd, vcpu_fd;
    size_t run_size;
    struct kvm_run *run;
    uint8_t *mem;
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void close_vm(struct probe_vm *p)
{
    if (p->run)
        munmap(p->run, p->run_size);
    if (p->vcpu_fd >= 0)
        close(p->vcpu_fd);
    if (p->vm_fd >= 0)
        close(p->vm_fd);
    if (p->mem)
        munmap(p->mem, PAGE_SIZE);
}

/* 32-bit protected mode by the hidden parts alone: no table is read, and real mode would be
 * emulated by VMX without unrestricted guest. */
static int set_flat32(struct probe_vm *p)
{
    struct kvm_sregs s;
    long r = kvm_ioctl(p->vcpu_fd, KVM_GET_SREGS, &s);

    if (r)
        return (int)r;
    struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};

    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cs = data;
    s.cs.selector = 8;
    s.cs.type = 11;
    s.cr0 |= CR0_PE;
    return (int)kvm_ioctl(p->vcpu_fd, KVM_SET_SREGS, &s);
}

/* 0 or -errno with *step. */
static int open_vm(int dev_fd, struct probe_vm *p, const char **step)
{
    long r;

    *p = (struct probe_vm){.vm_fd = -1, .vcpu_fd = -1};
    *step = "KVM_GET_VCPU_MMAP_SIZE";
    r = kvm_ioctl(dev_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (r < (long)sizeof(struct kvm_run))
        return r < 0 ? (int)r : -EINVAL;
    p->run_size = (size_t)r;
    *step = "KVM_CREATE_VM";
    p->vm_fd = (int)(r = kvm_ioctl(dev_fd, KVM_CREATE_VM, NULL));
    if (r < 0)
        return (int)r;
    *step = "memory for the probe guest";
    void *mem = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mem == MAP_FAILED)
        return -errno;
    p->mem = mem;
    copy_bytes(p->mem, guest_code, sizeof guest_code);
    struct kvm_userspace_memory_region slot = {
        .guest_phys_addr = GUEST_GPA, .memory_size = PAGE_SIZE, .userspace_addr = (uintptr_t)mem};

    *step = "KVM_SET_USER_MEMORY_REGION";
    r = kvm_ioctl(p->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);
    if (r)
        return (int)r;
    /* VMX wants its TSS pages for the guest's CR0.PE = 0 only, but asks for the address. */
    *step = "KVM_SET_TSS_ADDR";
    r = kvm_ioctl(p->vm_fd, KVM_SET_TSS_ADDR, (void *)0xfffbd000ul);
    if (r)
        return (int)r;
    *step = "KVM_CREATE_VCPU";
    p->vcpu_fd = (int)(r = kvm_ioctl(p->vm_fd, KVM_CREATE_VCPU, NULL));
    if (r < 0)
        return (int)r;
    *step = "mmap of struct kvm_run";
    void *run = mmap(NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu_fd, 0);

    if (run == MAP_FAILED || !run)
        return -ENOMEM;
    p->run = run;
    *step = "KVM_SET_SREGS";
    return set_flat32(p);
}

/* One passage of the loop: ns from KVM_RUN to its OUT, or -errno. */
static int64_t one_run(struct probe_vm *p, uint32_t loops)
{
    struct kvm_regs regs = {.rip = GUEST_GPA, .rflags = FL_R1, .rcx = loops};
    long r = kvm_ioctl(p->vcpu_fd, KVM_SET_REGS, &regs);

    if (r)
        return r;
    uint64_t t0 = now_ns();

    r = kvm_ioctl(p->vcpu_fd, KVM_RUN, NULL);
    uint64_t t1 = now_ns();

    if (r == -EINTR) /* a signal: this run does not count */
        return INT32_MAX;
    if (r)
        return r;
    if (p->run->exit_reason != KVM_EXIT_IO || p->run->io.port != 0x80)
        return -EPROTO;
    /* Finish the OUT, so that the next SET_REGS is not undone by it. */
    p->run->immediate_exit = 1;
    kvm_ioctl(p->vcpu_fd, KVM_RUN, NULL);
    p->run->immediate_exit = 0;
    return (int64_t)(t1 - t0);
}

/* The least of some runs; -errno. */
static int64_t best_of(struct probe_vm *p, uint32_t loops)
{
    int64_t best = INT32_MAX;

    for (unsigned i = 0; i < RUNS; i++) {
        int64_t ns = one_run(p, loops);

        if (ns < 0)
            return ns;
        if (ns < best)
            best = ns;
    }
    return best;
}

/* Bounded by construction: every run is a counted loop that ends in an exit. */
void kvm_probe_guest(int dev_fd, struct probe *out)
{
    struct probe_vm p;
    uint64_t t0 = now_ns();
    int err = open_vm(dev_fd, &p, &out->step);
    int64_t a = 0, b = 0;

    if (!err && p.run) {
        out->step = "KVM_RUN of the probe guest";
        a = one_run(&p, LOOP_SHORT); /* the first touches everything: not counted */
        if (a >= 0)
            a = best_of(&p, LOOP_SHORT);
        if (a >= 0)
            b = best_of(&p, LOOP_LONG);
        err = a < 0 ? (int)a : b < 0 ? (int)b : 0;
    }
    close_vm(&p);
    out->probe_ns = now_ns() - t0;
    out->err = -err;
    if (err) {
        /* It opens but a small guest does not run: not a KVM to rely on. */
        out->kind = KVM_NONE;
        return;
    }
    int64_t d = b > a ? b - a : 0;

    out->ns_per_insn_x100 = (uint64_t)d * 100 / (2 * (LOOP_LONG - LOOP_SHORT));
    out->kind = out->ns_per_insn_x100 < SLOW_NS_X100 ? KVM_HARDWARE : KVM_SOFTWARE;
    out->step = out->kind == KVM_HARDWARE ? "the probe guest ran at hardware speed"
                                          : "the probe guest was interpreted";
}

void kvm_probe(struct probe *out)
{
    *out = (struct probe){.kind = KVM_NONE, .step = "open /dev/kvm"};
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        out->err = errno;
        if (errno == EACCES)
            out->step = "/dev/kvm may not be opened (is the user in group kvm?)";
        return;
    }
    long r = kvm_ioctl(fd, KVM_GET_API_VERSION, NULL);

    out->api_version = (int)r;
    if (r != KVM_API_VERSION) {
        out->err = r < 0 ? (int)-r : ENOTSUP;
        out->step = "KVM_GET_API_VERSION is not 12";
    } else if (!host_virtualizes()) {
        out->kind = KVM_SOFTWARE;
        out->step = "CPUID has neither VMX nor SVM, so this KVM interprets CPL 0";
    } else {
        kvm_probe_guest(fd, out);
    }
    close(fd);
}
