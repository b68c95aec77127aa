#include "vcpu/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* VMX without unrestricted guest runs real mode through a TSS and an identity map of its own: three
 * pages and one of the guest-physical space, put where no RAM and no device is (SDM 3C 27.3.1.2 is
 * why; SVM ignores both). */
#define TSS_GPA      0xfffbd000u
#define IDENTITY_GPA 0xfffbc000u

uint64_t kvm_create_vm_ns;

long kvm_ioctl(int fd, unsigned long request, void *arg)
{
    long r = syscall(SYS_ioctl, fd, request, arg);

    return r < 0 ? -errno : r;
}

void *kvm_block(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static long extension(int fd, long cap)
{
    return kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)cap);
}

static int set_slot(struct vm_cpus *vm, uint32_t slot, gpa_t gpa, uint64_t size)
{
    struct kvm_userspace_memory_region r = {
        .slot = slot,
        .guest_phys_addr = gpa,
        .memory_size = size,
        .userspace_addr = (uintptr_t)vm->ram->base + gpa,
    };

    return size ? (int)kvm_ioctl(vm->kvm_fd, KVM_SET_USER_MEMORY_REGION, &r) : 0;
}

static int open_kvm(struct kvm_vm *k, const char **what)
{
    k->dev_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (k->dev_fd < 0) {
        *what = errno == EACCES ? "/dev/kvm may not be opened (is the user in group kvm?)"
                                : "open /dev/kvm";
        return -errno;
    }
    if (kvm_ioctl(k->dev_fd, KVM_GET_API_VERSION, NULL) != KVM_API_VERSION) {
        *what = "KVM_GET_API_VERSION is not 12";
        return -ENOTSUP;
    }
    const long sync = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;

    if ((extension(k->dev_fd, KVM_CAP_SYNC_REGS) & sync) != sync) {
        *what = "KVM_CAP_SYNC_REGS (Linux 4.17 or later is needed)";
        return -ENOTSUP;
    }
    if (extension(k->dev_fd, KVM_CAP_IMMEDIATE_EXIT) <= 0) {
        *what = "KVM_CAP_IMMEDIATE_EXIT (Linux 4.13 or later is needed)";
        return -ENOTSUP;
    }
    k->sregs2 = extension(k->dev_fd, KVM_CAP_SREGS2) > 0;
    long size = kvm_ioctl(k->dev_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);

    if (size < (long)sizeof(struct kvm_run)) {
        *what = "KVM_GET_VCPU_MMAP_SIZE";
        return size < 0 ? (int)size : -EINVAL;
    }
    k->run_size = (size_t)size;
    return 0;
}

/* Memory first: with no vCPU yet nobody has to be waited for, 22 us here against 80 after
 * KVM_CREATE_VCPU. The irqchip must precede the vCPUs, the TSS and the identity map too. */
static int set_up_vm(struct vm_cpus *vm, const char **what)
{
    uint64_t identity = IDENTITY_GPA;
    struct kvm_enable_cap unemulated = {.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = {1}};
    struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {IOAPIC_PINS}};
    /* The other vendor's VMCALL is #UD, and not rewritten in the guest's memory: a KVM that
     * interprets the guest rewrites it for ever. Linux 5.18; older ones go on as they do. */
    struct kvm_enable_cap quirks = {.cap = KVM_CAP_DISABLE_QUIRKS2,
                                    .args = {KVM_X86_QUIRK_FIX_HYPERCALL_INSN}};
    int r;

    vm->ram->host_protect = true; /* KVM_RUN returns -EFAULT for what the host may not write */
    *what = "KVM_SET_USER_MEMORY_REGION";
    r = set_slot(vm, 0, 0, vm->ram->low);
    if (!r)
        r = set_slot(vm, 1, MMIO_HOLE_END, vm->ram->high);
    if (r)
        return r;
    /* What KVM cannot emulate is ours to do at CPL 3 too, not #UD (Linux 5.14; without it some of
     * that is lost). */
    kvm_ioctl(vm->kvm_fd, KVM_ENABLE_CAP, &unemulated);
    *what = "KVM_SET_IDENTITY_MAP_ADDR";
    r = (int)kvm_ioctl(vm->kvm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    if (r)
        return r;
    *what = "KVM_SET_TSS_ADDR";
    r = (int)kvm_ioctl(vm->kvm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)TSS_GPA);
    if (r)
        return r;
    kvm_ioctl(vm->kvm_fd, KVM_ENABLE_CAP, &quirks);
    *what = "KVM_ENABLE_CAP (KVM_CAP_SPLIT_IRQCHIP)";
    return (int)kvm_ioctl(vm->kvm_fd, KVM_ENABLE_CAP, &split);
}

static void kvm_vm_fini(struct vm_cpus *vm)
{
    struct kvm_vm *k = vm->kvm;

    if (!k)
        return;
    vm->ram->host_protect = false;
    vm->irqchip.msi = NULL;
    vm->irqchip.extint = NULL;
    vm->engine_kick = NULL;
    for (struct kvm_vcpu *c = k->vcpus, *next; c; c = next) {
        next = c->next;
        kvm_vcpu_free(k, c);
    }
    if (k->fd >= 0)
        close(k->fd);
    if (k->dev_fd >= 0)
        close(k->dev_fd);
    vm->kvm_fd = -1;
    vm->kvm = NULL;
    munmap(k, sizeof *k);
}

static int kvm_vm_init(struct vm_cpus *vm, const char **what)
{
    struct kvm_vm *k = kvm_block(sizeof *k);
    uint64_t t0;
    int r;

    if (!k) {
        *what = "memory for the VM";
        return -ENOMEM;
    }
    k->fd = -1;
    k->dev_fd = -1;
    vm->kvm = k;
    vm->kvm_fd = -1;
    r = open_kvm(k, what);
    if (r)
        goto fail;
    kvm_cpuid_prefetch(k->dev_fd);
    t0 = now_ns();
    do {
        r = (int)kvm_ioctl(k->dev_fd, KVM_CREATE_VM, NULL);
    } while (r == -EINTR);
    kvm_create_vm_ns = now_ns() - t0;
    if (r < 0) {
        *what = "KVM_CREATE_VM";
        goto fail;
    }
    k->fd = r;
    vm->kvm_fd = r;
    r = set_up_vm(vm, what);
    if (r)
        goto fail;
    /* All vCPUs before any runs: an INIT sent to one that is not there yet would be lost. */
    for (unsigned i = 0; i < vm->nvcpu; i++) {
        r = kvm_vcpu_create(k, i, what);
        if (r)
            goto fail;
    }
    r = kvm_emulate_init();
    if (r) {
        *what = "mapping the interpreter's stub area";
        goto fail;
    }
    r = kvm_kick_signal_init();
    if (r) {
        *what = "the kick's signal handler";
        goto fail;
    }
    kvm_irq_init(vm);
    vm->engine_kick = kvm_vcpu_kick;
    return 0;
fail:
    kvm_vm_fini(vm);
    return r;
}

const struct engine engine_kvm = {
    .name = "kvm",
    .vm_init = kvm_vm_init,
    .vm_fini = kvm_vm_fini,
    .vcpu_init = kvm_vcpu_init,
    .vcpu_fini = kvm_vcpu_fini,
    .run = kvm_vcpu_run,
    .kick = kvm_vcpu_kick,
};
