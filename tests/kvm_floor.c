/*
 * The least that a machine on /dev/kvm costs: one VM with the split irqchip and 128 MiB of memory,
 * as mayfly has it, one vCPU, one exit. Status 0, or 1 with the step that failed.
 *
 * kvm_floor confined: the least for a guest that is not trusted and may ask what CPU it has: the
 * vCPU is told of the leaves whose features KVM itself looks at, and runs under mayfly's filter.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "seccomp/seccomp.h"

#define GUEST 0x1000u
#define PORT  0xf4u
#define MEM   (128u << 20)

static const uint8_t code[] = {0x66, 0xba, PORT, 0x00, 0xee}; /* mov dx, PORT; out dx, al */

static int fail(const char *step)
{
    fprintf(stderr, "kvm_floor: %s: %s\n", step, strerror(errno));
    return 1;
}

/* What the leaves say does not matter to what the call takes; which there are, does. */
static int set_cpuid(int vcpu)
{
    static const uint32_t leaf[][2] = {{0, 0},          {1, 0},          {7, 0},
                                       {0xd, 0},        {0xd, 1},        {0xd, 2},
                                       {0x80000000, 0}, {0x80000001, 0}, {0x80000008, 0}};
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 e[sizeof leaf / sizeof leaf[0]];
    } list = {.head.nent = sizeof leaf / sizeof leaf[0]};

    for (unsigned i = 0; i < list.head.nent; i++)
        list.e[i] = (struct kvm_cpuid_entry2){
            .function = leaf[i][0], .index = leaf[i][1], .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
    return ioctl(vcpu, KVM_SET_CPUID2, &list);
}

int main(int argc, char **argv)
{
    bool confined = argc > 1 && !strcmp(argv[1], "confined");
    struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
    struct kvm_userspace_memory_region slot = {.memory_size = MEM};
    struct kvm_segment flat = {
        .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    struct kvm_regs regs = {.rip = GUEST, .rflags = 2};
    struct kvm_sregs s;
    int dev = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (dev < 0)
        return fail("/dev/kvm");
    int vm = ioctl(dev, KVM_CREATE_VM, 0);
    int size = ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0);

    if (vm < 0 || size < (int)sizeof(struct kvm_run))
        return fail("KVM_CREATE_VM");
    if (ioctl(vm, KVM_ENABLE_CAP, &split))
        return fail("KVM_CAP_SPLIT_IRQCHIP");
    uint8_t *mem =
        mmap(NULL, MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (mem == MAP_FAILED)
        return fail("mmap");
    memcpy(mem + GUEST, code, sizeof code);
    slot.userspace_addr = (uintptr_t)mem;
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot))
        return fail("KVM_SET_USER_MEMORY_REGION");
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);

    if (vcpu < 0)
        return fail("KVM_CREATE_VCPU");
    struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

    if (run == MAP_FAILED || ioctl(vcpu, KVM_GET_SREGS, &s))
        return fail("KVM_GET_SREGS");
    if (confined && set_cpuid(vcpu))
        return fail("KVM_SET_CPUID2");
    s.ds = s.es = s.fs = s.gs = s.ss = s.cs = flat;
    s.cs.selector = 8;
    s.cs.type = 11;
    s.cr0 |= 1;
    if (ioctl(vcpu, KVM_SET_SREGS, &s) || ioctl(vcpu, KVM_SET_REGS, &regs))
        return fail("KVM_SET_SREGS");
    if (confined && seccomp_install(SECCOMP_ALONE_KVM))
        return fail("the filter");
    if (ioctl(vcpu, KVM_RUN, 0))
        return fail("KVM_RUN");
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT) {
        fprintf(stderr, "kvm_floor: exit reason %u\n", run->exit_reason);
        return 1;
    }
    return 0;
}
