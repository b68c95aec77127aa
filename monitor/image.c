/* Files that a loader reads: opened, checked and mapped; each refusal has its status and line. */
#include "monitor/core.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAKES "mayfly takes kernels (bzImage, ELF, multiboot) and static Linux programs"

/* What is in the binary (embed.S). Weak: a test links without it. */
extern const uint8_t embedded_hello_start[] __attribute__((weak));
extern const uint8_t embedded_hello_end[] __attribute__((weak));
extern const uint8_t embedded_runtime_start[] __attribute__((weak));
extern const uint8_t embedded_runtime_end[] __attribute__((weak));
extern const uint8_t embedded_runtime_net_start[] __attribute__((weak));
extern const uint8_t embedded_runtime_net_end[] __attribute__((weak));

static const char *kind_of(mode_t mode)
{
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISFIFO(mode))
        return "a pipe (save what it gives to a file)";
    if (S_ISSOCK(mode))
        return "a socket";
    return "a device";
}

static int refuse(const char *path, const char *what, int err)
{
    if (err == ENOENT || err == ENOTDIR) {
        msg_error("%s '%s': %s; check the name", what, path, strerror(err));
        return STATUS_NO_IMAGE;
    }
    msg_error("%s '%s': cannot open it: %s", what, path, strerror(err));
    return err == EACCES || err == EPERM || err == ELOOP || err == ENAMETOOLONG || err == ENXIO
               ? STATUS_BAD_IMAGE
               : STATUS_FAILURE;
}

static int map(const char *path, const char *what, int fd, struct boot_image *img)
{
    bool guest = !strcmp(what, "image");
    struct stat st;

    if (fstat(fd, &st)) {
        msg_error("%s '%s': %s", what, path, strerror(errno));
        return STATUS_FAILURE;
    }
    if (!S_ISREG(st.st_mode)) {
        msg_error("%s '%s': it is %s; %s", what, path, kind_of(st.st_mode),
                  guest ? TAKES : "it must be a file");
        return STATUS_BAD_IMAGE;
    }
    if (st.st_size == 0) {
        msg_error("%s '%s': the file is empty; %s", what, path,
                  guest ? TAKES : "leave --initrd out, or give another file");
        return STATUS_BAD_IMAGE;
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

    if (p == MAP_FAILED) {
        struct rlimit as;
        bool limited = !getrlimit(RLIMIT_AS, &as) && as.rlim_cur != RLIM_INFINITY;

        msg_error("%s '%s': cannot map %llu bytes: %s%s", what, path,
                  (unsigned long long)st.st_size, strerror(errno),
                  limited && errno == ENOMEM ? " (ulimit -v is set: raise it)" : "");
        return STATUS_FAILURE;
    }
    *img = (struct boot_image){.path = path, .data = p, .len = (uint64_t)st.st_size};
    return 0;
}

int image_open(const char *path, const char *what, struct boot_image *img)
{
    /* O_NONBLOCK: a pipe without a writer must not hold us up. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return refuse(path, what, errno);
    int status = map(path, what, fd, img);

    close(fd);
    return status;
}

int image_open_guest(const struct config *cfg, struct boot_image *img)
{
    const uint8_t *start = embedded_hello_start;
    uint64_t len = (uintptr_t)embedded_hello_end - (uintptr_t)start;

    if (!strcmp(cfg->guest, "hello") && start && len && access("hello", F_OK)) {
        *img = (struct boot_image){.path = "hello", .data = start, .len = len};
        msg_verbose("guest: the hello built into mayfly");
        return 0;
    }
    return image_open(cfg->guest, "image", img);
}

void image_runtime(struct boot_image *img, bool network)
{
    const uint8_t *start = network ? embedded_runtime_net_start : embedded_runtime_start;
    const uint8_t *end = network ? embedded_runtime_net_end : embedded_runtime_end;

    if (start != end)
        *img = (struct boot_image){
            .path = "runtime", .data = start, .len = (uintptr_t)end - (uintptr_t)start};
}
