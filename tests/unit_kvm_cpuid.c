/* The file that keeps KVM_GET_SUPPORTED_CPUID's answer: taken when it is ours and of this CPU, boot
 * and KVM, and only then. */
#include "kvm_machine.h"

#include <stdlib.h>
#include <sys/stat.h>

static char dir[64], path[96];
static const struct kvm_cpuid_key key = {.magic = 1,
                                         .kvm_inode = 2,
                                         .cpu = {3, 4, 5},
                                         .booted = 1000000,
                                         .release = "6",
                                         .version = "#1"};
static struct kvm_cpuid_buf buf, got;
static bool hw;

static void setup(void)
{
    strcpy(dir, "/tmp/unit_kvm_cpuid.XXXXXX");
    cr_assert(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/file", dir);
    memset(&buf, 0x5a, sizeof buf);
    buf.head.nent = 7;
    kvm_cpuid_cache_save(path, &key, &buf, true);
}

static void teardown(void)
{
    unlink(path);
    cr_assert_eq(rmdir(dir), 0, "something else was left in %s", dir);
}

TestSuite(cache, .init = setup, .fini = teardown);

Test(cache, what_was_saved_is_loaded)
{
    struct stat st;

    memset(&got, 0, sizeof got);
    cr_assert(kvm_cpuid_cache_load(path, &key, &got, &hw));
    cr_assert_eq(got.head.nent, 7);
    cr_assert(hw);
    kvm_cpuid_cache_save(path, &key, &buf, false);
    cr_assert(kvm_cpuid_cache_load(path, &key, &got, &hw));
    cr_assert(!hw);
    cr_assert(!memcmp(got.e, buf.e, 7 * sizeof buf.e[0]));
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
}

Test(cache, another_cpu_boot_or_kvm_is_not)
{
    struct kvm_cpuid_key k = key;

    k.cpu[2]++;
    cr_assert(!kvm_cpuid_cache_load(path, &k, &got, &hw));
    k = key;
    k.kvm_inode++;
    cr_assert(!kvm_cpuid_cache_load(path, &k, &got, &hw));
    k = key;
    k.booted += 3;
    cr_assert(!kvm_cpuid_cache_load(path, &k, &got, &hw));
    k.booted -= 6;
    cr_assert(!kvm_cpuid_cache_load(path, &k, &got, &hw));
    k.booted += 2;
    cr_assert(kvm_cpuid_cache_load(path, &k, &got, &hw), "the clock was adjusted by a second");
    k = key;
    k.version[1]++;
    cr_assert(!kvm_cpuid_cache_load(path, &k, &got, &hw));
    k = key;
    k.magic++;
    cr_assert(!kvm_cpuid_cache_load(path, &k, &got, &hw));
}

Test(cache, what_others_may_write_is_not)
{
    char link[128];

    cr_assert_eq(chmod(path, 0620), 0);
    cr_assert(!kvm_cpuid_cache_load(path, &key, &got, &hw));
    cr_assert_eq(chmod(path, 0602), 0);
    cr_assert(!kvm_cpuid_cache_load(path, &key, &got, &hw));
    cr_assert_eq(chmod(path, 0644), 0);
    cr_assert(kvm_cpuid_cache_load(path, &key, &got, &hw));
    snprintf(link, sizeof link, "%s.link", path);
    cr_assert_eq(symlink(path, link), 0);
    cr_expect(!kvm_cpuid_cache_load(link, &key, &got, &hw), "a symbolic link was followed");
    unlink(link);
    if (geteuid() == 0) {
        cr_assert_eq(chown(path, 12345, 12345), 0);
        cr_assert(!kvm_cpuid_cache_load(path, &key, &got, &hw), "another user's file was taken");
    }
}

Test(cache, a_cut_or_wrong_file_is_not)
{
    struct stat st;
    uint32_t many = 100000;

    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(truncate(path, st.st_size - 1), 0);
    cr_assert(!kvm_cpuid_cache_load(path, &key, &got, &hw));
    cr_assert_eq(truncate(path, 0), 0);
    cr_assert(!kvm_cpuid_cache_load(path, &key, &got, &hw));
    unlink(path);
    cr_assert(!kvm_cpuid_cache_load(path, &key, &got, &hw));
    kvm_cpuid_cache_save(path, &key, &buf, true);

    int fd = open(path, O_WRONLY);

    cr_assert(fd >= 0 && pwrite(fd, &many, sizeof many, sizeof key) == sizeof many);
    close(fd);
    cr_assert(!kvm_cpuid_cache_load(path, &key, &got, &hw), "an impossible count was believed");
}

/* A launch leaves what KVM says and the probe found, and the next one believes it. */
Test(cache, by_launches)
{
    NEED_KVM();

    static struct kvm_cpuid_buf now;
    struct kvm_cpuid_key k;
    char file[KVM_CPUID_PATH];
    struct machine_ *m;

    kvm_cpuid_dir = dir;
    cr_assert(kvm_cpuid_cache_path(file, sizeof file));
    if (!kvm_cpuid_key(&k))
        cr_skip_test("no /sys: nothing is kept");
    cr_assert(!kvm_known_hardware());
    m = make();
    start(m, &engine_kvm);
    destroy(m);
    cr_assert(kvm_cpuid_cache_load(file, &k, &got, &hw));
    cr_assert(!hw);

    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    now.head.nent = KVM_CPUID_ENTRIES;
    cr_assert_eq(kvm_ioctl(fd, KVM_GET_SUPPORTED_CPUID, &now), 0);
    close(fd);
    cr_assert_eq(now.head.nent, got.head.nent);
    for (unsigned i = 0; i < now.head.nent; i++)
        cr_assert_eq(now.e[i].function, got.e[i].function);

    kvm_note_hardware();
    m = make();
    start(m, &engine_kvm);
    destroy(m);
    cr_assert(kvm_cpuid_cache_load(file, &k, &got, &hw));
    cr_assert(hw);
    cr_assert_eq(now.head.nent, got.head.nent);
    unlink(file);
}
