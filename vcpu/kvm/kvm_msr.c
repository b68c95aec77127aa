#include "vcpu/kvm/kvm.h"

#include <errno.h>

/* MSRs with state of their own: one row each. */
struct msr_row {
    uint32_t index;
    uint16_t offset; /* of the uint64_t in struct cpu */
    bool optional;   /* KVM may lack it, and then so does the guest's CPUID */
};
#define AT(field) offsetof(struct cpu, field)

static const struct msr_row msr_table[] = {
    {0x174, AT(sysenter_cs), false},
    {0x175, AT(sysenter_esp), false},
    {0x176, AT(sysenter_eip), false},
    {0xc0000081, AT(star), false},
    {0xc0000082, AT(lstar), false},
    {0xc0000083, AT(cstar), false},
    {0xc0000084, AT(sfmask), false},
    {0xc0000102, AT(kernel_gs_base), false},
    {0xc0000103, AT(tsc_aux), true},
    {0x277, AT(pat), false},
    {0x1a0, AT(misc_enable), true},
    {0x3b, AT(tsc_adjust), true},
    {0x48, AT(spec_ctrl), true},
    {0x17a, AT(mcg_status), true},
    {0x2ff, AT(mtrr_def_type), true},
    {0x250, AT(mtrr_fixed[0]), true},
    {0x258, AT(mtrr_fixed[1]), true},
    {0x259, AT(mtrr_fixed[2]), true},
    {0x268, AT(mtrr_fixed[3]), true},
    {0x269, AT(mtrr_fixed[4]), true},
    {0x26a, AT(mtrr_fixed[5]), true},
    {0x26b, AT(mtrr_fixed[6]), true},
    {0x26c, AT(mtrr_fixed[7]), true},
    {0x26d, AT(mtrr_fixed[8]), true},
    {0x26e, AT(mtrr_fixed[9]), true},
    {0x26f, AT(mtrr_fixed[10]), true},
    {0x200, AT(mtrr_phys[0]), true},
    {0x201, AT(mtrr_phys[1]), true},
    {0x202, AT(mtrr_phys[2]), true},
    {0x203, AT(mtrr_phys[3]), true},
    {0x204, AT(mtrr_phys[4]), true},
    {0x205, AT(mtrr_phys[5]), true},
    {0x206, AT(mtrr_phys[6]), true},
    {0x207, AT(mtrr_phys[7]), true},
    {0x208, AT(mtrr_phys[8]), true},
    {0x209, AT(mtrr_phys[9]), true},
    {0x20a, AT(mtrr_phys[10]), true},
    {0x20b, AT(mtrr_phys[11]), true},
    {0x20c, AT(mtrr_phys[12]), true},
    {0x20d, AT(mtrr_phys[13]), true},
    {0x20e, AT(mtrr_phys[14]), true},
    {0x20f, AT(mtrr_phys[15]), true},
    {0x4b564d00, AT(kvm_wall_clock), true},
    {0x4b564d01, AT(kvm_system_time), true},
};
#define NMSRS (sizeof msr_table / sizeof msr_table[0])
_Static_assert(NMSRS <= 64, "kvm_vcpu.msr_missing is a mask of rows");

#define MSR_TSC         0x10u
#define MSR_MISC_ENABLE 0x1a0u
#define MSR_PAT         0x277u

struct msr_list {
    struct kvm_msrs head;
    struct kvm_msr_entry e[NMSRS];
};

static uint64_t *msr_field(struct cpu *c, unsigned row)
{
    return (uint64_t *)(void *)((uint8_t *)c + msr_table[row].offset);
}

/* Has KVM this value already: the one it was last seen with, or in a new vCPU what RESET leaves
 * (SDM 3A table 9-1), 0 but for two? */
static bool held(struct vcpu *v, unsigned row)
{
    uint64_t val = *msr_field(&v->cpu, row);
    uint32_t index = msr_table[row].index;

    if (v->kvm->held)
        return val == *msr_field(&v->kvm->cpu, row);
    return v->kvm->fresh && !val && index != MSR_PAT && index != MSR_MISC_ENABLE;
}

/* The rows that this KVM has, from row on: fills list and rows, returns the count. set: without
 * those it need not be told. */
static unsigned msr_rows(struct vcpu *v, struct msr_list *list, uint8_t *rows, unsigned row,
                         bool set)
{
    unsigned n = 0;

    for (; row < NMSRS; row++) {
        if ((v->kvm->msr_missing >> row & 1) || (set && held(v, row)))
            continue;
        list->e[n] = (struct kvm_msr_entry){.index = msr_table[row].index};
        rows[n++] = (uint8_t)row;
    }
    list->head = (struct kvm_msrs){.nmsrs = n};
    return n;
}

/* KVM_SET_MSRS and KVM_GET_MSRS stop at the first MSR they do not take and return its place. */
int kvm_move_msrs(struct vcpu *v, bool set)
{
    struct msr_list list;
    uint8_t rows[NMSRS];
    unsigned row = 0, n;

    while ((n = msr_rows(v, &list, rows, row, set))) {
        if (set)
            for (unsigned i = 0; i < n; i++)
                list.e[i].data = *msr_field(&v->cpu, rows[i]);
        long done = kvm_ioctl(v->kvm->fd, set ? KVM_SET_MSRS : KVM_GET_MSRS, &list);

        if (done < 0)
            return (int)done;
        if (!set)
            for (unsigned i = 0; i < (unsigned)done; i++)
                *msr_field(&v->cpu, rows[i]) = list.e[i].data;
        if ((unsigned)done >= n)
            return 0;
        row = rows[done];
        if (!msr_table[row].optional)
            return -EINVAL;
        v->kvm->msr_missing |= (uint64_t)1 << row;
        row++;
    }
    return 0;
}

int kvm_one_msr(struct vcpu *v, bool set, uint32_t index, uint64_t *val)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e;
    } m = {.head = {.nmsrs = 1}, .e = {.index = index, .data = *val}};
    long r = kvm_ioctl(v->kvm->fd, set ? KVM_SET_MSRS : KVM_GET_MSRS, &m);

    if (r != 1)
        return r < 0 ? (int)r : -EINVAL;
    *val = m.e.data;
    return 0;
}

/* --- the time stamp counter --- */

static uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

static long tsc_offset_attr(struct vcpu *v, unsigned long op, uint64_t *val)
{
    struct kvm_device_attr a = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)val};

    return kvm_ioctl(v->kvm->fd, op, &a);
}

/* A KVM that runs CPL 3 without VMX or SVM cannot offset RDTSC: it takes the value and ignores it.
 */
int kvm_set_tsc(struct vcpu *v)
{
    uint64_t val = v->cpu.tsc_offset;

    /* The offset itself, the same for all CPUs, where KVM takes it (Linux 5.16). */
    v->kvm->have_tsc_offset = tsc_offset_attr(v, KVM_SET_DEVICE_ATTR, &val) == 0;
    if (v->kvm->have_tsc_offset && v->cpu.tsc_offset) {
        long r = tsc_offset_attr(v, KVM_GET_DEVICE_ATTR, &val);

        return r ? (int)r : val == v->cpu.tsc_offset ? 0 : -ENOTSUP;
    }
    if (v->kvm->have_tsc_offset)
        return 0;
    val = rdtsc() + v->cpu.tsc_offset;
    return kvm_one_msr(v, true, MSR_TSC, &val);
}

int kvm_get_tsc(struct vcpu *v)
{
    uint64_t val = 0;

    if (v->kvm->have_tsc_offset)
        return (int)tsc_offset_attr(v, KVM_GET_DEVICE_ATTR, &v->cpu.tsc_offset);
    uint64_t before = rdtsc();
    int r = kvm_one_msr(v, false, MSR_TSC, &val);

    if (r)
        return r;
    /* Two clocks cannot be read at once: the offset stays unless the guest wrote its TSC. */
    int64_t off = (int64_t)(val - before - v->cpu.tsc_offset);

    if (off < -1000000 || off > 1000000)
        v->cpu.tsc_offset = val - before;
    return 0;
}
