/* `mayfly check`: what this host offers, a line a topic. It changes nothing. */
#include "monitor/core.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

static void line(struct text *t, const char *topic)
{
    text_add(t, "%-10s ", topic);
}

/* First line of a small file; "?" when it cannot be read. */
static const char *file_line(const char *path, char *buf, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, cap - 1);

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return "?";
    buf[n] = 0;
    buf[strcspn(buf, "\n")] = 0;
    return buf;
}

static void host(struct text *t)
{
    struct utsname u;
    struct sysinfo si;

    line(t, "host");
    if (!uname(&u))
        text_add(t, "%s %s %s", u.sysname, u.release, u.machine);
    text_add(t, ", %ld CPUs", sysconf(_SC_NPROCESSORS_ONLN));
    if (!sysinfo(&si))
        text_add(t, ", %llu MiB RAM",
                 (unsigned long long)((uint64_t)si.totalram * si.mem_unit / MIB));
    text_add(t, "\n");
}

static const struct feature {
    const char *name;
    uint32_t leaf;
    uint8_t reg, bit; /* 0-3: eax, ebx, ecx, edx */
} features[] = {
    {"vmx", 1, 2, 5},
    {"svm", 0x80000001, 2, 2},
    {"hypervisor", 1, 2, 31},
    {"avx", 1, 2, 28},
    {"avx2", 7, 1, 5},
    {"avx512f", 7, 1, 16},
    {"bmi2", 7, 1, 8},
    {"fsgsbase", 7, 1, 0},
    {"xsave", 1, 2, 26},
    {"erms", 7, 1, 9},
    {"fsrm", 7, 3, 4},
    {"invtsc", 0x80000007, 3, 8},
    {"rdtscp", 0x80000001, 3, 27},
};

static void cpu(struct text *t)
{
    uint32_t r[4] = {0}, brand[12] = {0};
    char vendor[13] = "", name[49] = "";
    const char *how = "?";
    uint64_t hz = tsc_frequency(&how);

    __cpuid(0, r[0], r[1], r[2], r[3]);
    memcpy(vendor, &r[1], 4);
    memcpy(vendor + 4, &r[3], 4);
    memcpy(vendor + 8, &r[2], 4);
    __cpuid(0x80000000, r[0], r[1], r[2], r[3]);
    if (r[0] >= 0x80000004)
        for (unsigned i = 0; i < 3; i++)
            __cpuid(0x80000002 + i, brand[i * 4], brand[i * 4 + 1], brand[i * 4 + 2],
                    brand[i * 4 + 3]);
    memcpy(name, brand, 48);
    line(t, "cpu");
    text_add(t, "%s, %s\n", vendor, name + strspn(name, " "));
    line(t, "features");
    unsigned any = 0;

    for (unsigned i = 0; i < sizeof features / sizeof features[0]; i++) {
        const struct feature *f = &features[i];

        if (__get_cpuid_count(f->leaf, 0, &r[0], &r[1], &r[2], &r[3]) && r[f->reg] & (1u << f->bit))
            text_add(t, "%s%s", any++ ? " " : "", f->name);
    }
    text_add(t, "\n");
    line(t, "tsc");
    text_add(t, "%llu kHz (%s)\n", (unsigned long long)(hz / 1000), how);
}

static void kvm(struct text *t)
{
    struct probe p;
    char why[256];

    kvm_probe(&p);
    line(t, "kvm");
    if (p.kind == KVM_NONE)
        text_add(t, "none: %s: %s\n", p.step, strerror(abs(p.err)));
    else
        text_add(t, "%s, API %d: %s\n",
                 p.kind == KVM_HARDWARE ? "hardware" : "software (CPL0 is interpreted)",
                 p.api_version, p.step);
    if (p.probe_ns) {
        line(t, "probe");
        text_add(t, "%llu ns for the CPL0 guest, %llu.%02llu ns an instruction\n",
                 (unsigned long long)p.probe_ns, (unsigned long long)(p.ns_per_insn_x100 / 100),
                 (unsigned long long)(p.ns_per_insn_x100 % 100));
    }
    const struct engine *e = choose_engine(ENGINE_AUTO, why, sizeof why);

    line(t, "engine");
    text_add(t, "auto takes %s: %s\n", e->name, why);
}

static void kernel(struct text *t)
{
    struct io_uring_params ring = {0};
    uint32_t kill = SECCOMP_RET_KILL_PROCESS;
    long r = syscall(SYS_io_uring_setup, 1, &ring);

    line(t, "io_uring");
    if (r >= 0) {
        text_add(t, "yes, features 0x%x\n", ring.features);
        close((int)r);
    } else {
        text_add(t, "no: %s (requests would go through a pool of threads)\n", strerror(errno));
    }
    line(t, "seccomp");
    if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &kill) == 0)
        text_add(t, "yes\n");
    else
        text_add(t, "no: %s (run needs --seccomp off)\n", strerror(errno));
    r = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */);
    line(t, "landlock");
    if (r > 0)
        text_add(t, "ABI %ld\n", r);
    else
        text_add(t, "no: %s\n", strerror(errno));
}

static void limits(struct text *t)
{
    static const struct {
        const char *name;
        int id;
        unsigned shift;
    } row[] = {{"AS (ulimit -v)", RLIMIT_AS, 20},
               {"NOFILE", RLIMIT_NOFILE, 0},
               {"MEMLOCK", RLIMIT_MEMLOCK, 20}};
    char buf[128];

    line(t, "limits");
    for (unsigned i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct rlimit l;

        if (getrlimit(row[i].id, &l))
            continue;
        text_add(t, "%s ", row[i].name);
        if (l.rlim_cur == RLIM_INFINITY)
            text_add(t, "unlimited, ");
        else
            text_add(t, "%llu%s, ", (unsigned long long)(l.rlim_cur >> row[i].shift),
                     row[i].shift ? " MiB" : "");
    }
    text_add(t, "max_map_count %s\n", file_line("/proc/sys/vm/max_map_count", buf, sizeof buf));
    line(t, "hugepages");
    text_add(t, "private %s",
             file_line("/sys/kernel/mm/transparent_hugepage/enabled", buf, sizeof buf));
    text_add(t, "; shared %s\n",
             file_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", buf, sizeof buf));
}

int check_main(void)
{
    char buf[4096];
    struct text t = {buf, 0, sizeof buf};

    host(&t);
    cpu(&t);
    kvm(&t);
    kernel(&t);
    limits(&t);
    return cli_say(t.buf);
}
