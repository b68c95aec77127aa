/*
 * What KVM_GET_SUPPORTED_CPUID said, kept from one launch to the next: under a hypervisor the
 * question costs as much as the VM itself (some sixty CPUIDs, an exit each).
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
#include <unistd.h>
#include "vcpu/hostcpu.h"

#define MAGIC 0x3164697570637661u /* to be changed with the form of the file */

/* The file: the key, then the list as long as it is. */
static size_t list_size(unsigned nent)
{
    return offsetof(struct kvm_cpuid_buf, e) + nent * sizeof(struct kvm_cpuid_entry2);
}

bool kvm_cpuid_key(struct kvm_cpuid_key *key)
{
    struct stat st;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;

    memset(key, 0, sizeof *key);
    if (fd >= 0) {
        n = read(fd, key->boot_id, sizeof key->boot_id);
        close(fd);
    }
    /* The device's inode in sysfs: its number is given when the module registers the device, and
     * not again in this boot. /dev/kvm itself may be anybody's mknod(). */
    if (n != sizeof key->boot_id || stat("/sys/devices/virtual/misc/kvm", &st))
        return false;
    key->magic = MAGIC;
    key->kvm_inode = st.st_ino;
    key->cpu = host_cpuid(1, 0).r[0];
    return true;
}

bool kvm_cpuid_cache_path(char *path, size_t len)
{
    const char *dir = geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR");
    int n = dir && *dir == '/' ? snprintf(path, len, "%s/mayfly-kvm-cpuid", dir) : -1;

    return n > 0 && (size_t)n < len;
}

/* All or nothing of len bytes. */
static bool get(int fd, void *buf, size_t len)
{
    return read(fd, buf, len) == (ssize_t)len;
}

bool kvm_cpuid_cache_load(const char *path, const struct kvm_cpuid_key *key,
                          struct kvm_cpuid_buf *out)
{
    struct kvm_cpuid_key k;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return false;
    bool ok = !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
              !(st.st_mode & (S_IWGRP | S_IWOTH)) && get(fd, &k, sizeof k) &&
              !memcmp(&k, key, sizeof k) && get(fd, &out->head, sizeof out->head) &&
              out->head.nent <= KVM_CPUID_ENTRIES &&
              st.st_size == (off_t)(sizeof k + list_size(out->head.nent)) &&
              get(fd, out->e, list_size(out->head.nent) - sizeof out->head);

    close(fd);
    return ok;
}

void kvm_cpuid_cache_save(const char *path, const struct kvm_cpuid_key *key,
                          const struct kvm_cpuid_buf *buf)
{
    char temp[KVM_CPUID_PATH + 16];
    int n = snprintf(temp, sizeof temp, "%s.%d", path, (int)getpid());
    size_t len = list_size(buf->head.nent);

    if (n < 0 || (size_t)n >= sizeof temp)
        return;
    /* Whole or not at all: others may read it meanwhile. */
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return;
    bool ok = write(fd, key, sizeof *key) == sizeof *key && write(fd, buf, len) == (ssize_t)len;

    close(fd);
    if (!ok || rename(temp, path))
        unlink(temp);
}
