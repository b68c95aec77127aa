/*
 * What KVM_GET_SUPPORTED_CPUID said, kept from one launch to the next: under a hypervisor the
 * question costs as much as the VM itself (some sixty CPUIDs, an exit each). With it what the
 * host's CPUID said to us, and that the probe guest ran at hardware speed, if it did.
 *
 * The answer depends on the CPU, this boot of the kernel and this loading of KVM, and so does the
 * file: it carries their identities, and one that does not match all of them is as good as none.
 * It lies where only we can write, /run for root and $XDG_RUNTIME_DIR for others, and must be ours.
 * Every failure means that KVM is asked.
 */
#include "vcpu/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include "vcpu/hostcpu.h"

#define MAGIC        0x3364697570637661u /* to be changed with the form of the file */
#define BOOT_SLACK_S 2 /* clocks are adjusted; nothing boots twice in so short a time */

/* The file: this, then the list as long as it is. */
struct head {
    struct kvm_cpuid_key key;
    struct kvm_cpuid2 list;
    uint32_t hardware;
    uint32_t nknown;
    struct host_known known[HOST_LEAVES];
};

static size_t list_size(unsigned nent)
{
    return nent * sizeof(struct kvm_cpuid_entry2);
}

bool kvm_cpuid_key(struct kvm_cpuid_key *key)
{
    struct host_leaf one = host_cpuid(1, 0);
    struct timespec now, up;
    struct utsname u;
    struct stat st;

    memset(key, 0, sizeof *key);
    /* The device's inode in sysfs: its number is given when the module registers the device, and
     * not again in this boot. /dev/kvm itself may be anybody's mknod(). */
    if (stat("/sys/devices/virtual/misc/kvm", &st) || uname(&u) ||
        clock_gettime(CLOCK_REALTIME, &now) || clock_gettime(CLOCK_BOOTTIME, &up))
        return false;
    key->magic = MAGIC;
    key->kvm_inode = st.st_ino;
    key->booted = now.tv_sec - up.tv_sec;
    key->cpu[0] = one.r[0];
    key->cpu[1] = one.r[2];
    key->cpu[2] = one.r[3];
    memcpy(key->release, u.release, sizeof key->release);
    memcpy(key->version, u.version, sizeof key->version);
    return true;
}

static bool same_key(const struct kvm_cpuid_key *a, const struct kvm_cpuid_key *b)
{
    struct kvm_cpuid_key x = *a;
    int64_t apart = a->booted - b->booted;

    x.booted = b->booted;
    return apart >= -BOOT_SLACK_S && apart <= BOOT_SLACK_S && !memcmp(&x, b, sizeof x);
}

const char *kvm_cpuid_dir;

bool kvm_cpuid_cache_path(char *path, size_t len)
{
    const char *dir = kvm_cpuid_dir    ? kvm_cpuid_dir
                      : geteuid() == 0 ? "/run"
                                       : getenv("XDG_RUNTIME_DIR");
    static const char name[] = "/mayfly-kvm-cpuid";

    if (!dir || *dir != '/' || strlen(dir) + sizeof name > len)
        return false;
    size_t n = strlen(dir);

    memcpy(path, dir, n);
    memcpy(path + n, name, sizeof name);
    return true;
}

/* All or nothing of len bytes. */
static bool get(int fd, void *buf, size_t len)
{
    return read(fd, buf, len) == (ssize_t)len;
}

bool kvm_cpuid_cache_load(const char *path, const struct kvm_cpuid_key *key,
                          struct kvm_cpuid_buf *out, bool *hardware)
{
    struct head h;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return false;
    bool ok = !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
              !(st.st_mode & (S_IWGRP | S_IWOTH)) && get(fd, &h, sizeof h) &&
              same_key(&h.key, key) && h.nknown <= HOST_LEAVES &&
              h.list.nent <= KVM_CPUID_ENTRIES &&
              st.st_size == (off_t)(sizeof h + list_size(h.list.nent)) &&
              get(fd, out->e, list_size(h.list.nent));

    close(fd);
    if (!ok)
        return false;
    out->head = h.list;
    *hardware = h.hardware;
    for (unsigned i = 0; i < h.nknown; i++)
        host_cpuid_know(&h.known[i]);
    return true;
}

void kvm_cpuid_cache_save(const char *path, const struct kvm_cpuid_key *key,
                          const struct kvm_cpuid_buf *buf, bool hardware)
{
    char temp[KVM_CPUID_PATH + 16];
    int n = snprintf(temp, sizeof temp, "%s.%d", path, (int)getpid());
    size_t len = list_size(buf->head.nent);
    struct head h = {.key = *key, .list = buf->head, .hardware = hardware};

    h.nknown = host_cpuid_known(h.known);
    if (n < 0 || (size_t)n >= sizeof temp)
        return;
    /* Whole or not at all: others may read it meanwhile. */
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return;
    bool ok = write(fd, &h, sizeof h) == sizeof h && write(fd, buf->e, len) == (ssize_t)len;

    close(fd);
    if (!ok || rename(temp, path))
        unlink(temp);
}
