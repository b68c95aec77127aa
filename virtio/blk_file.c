/* The file or device behind a disk: the option's words, opening, size, lock. */
#include "virtio/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_LEN 4096u

static int fail(int error, char *err, size_t len, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static int fail(int error, char *err, size_t len, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err, len, fmt, ap);
    va_end(ap);
    return -error;
}

/* Up to the next single comma; *s is left after it. */
static bool take_word(const char **s, char *out, size_t cap)
{
    size_t n = 0;

    while (**s) {
        if (**s == ',') {
            if ((*s)[1] != ',') {
                (*s)++;
                break;
            }
            (*s)++;
        }
        if (n + 1 >= cap)
            return false;
        out[n++] = *(*s)++;
    }
    out[n] = 0;
    return true;
}

static int parse(const char *arg, char *path, struct blk_file *f, char *err, size_t len)
{
    char word[64];

    if (!take_word(&arg, path, PATH_LEN))
        return fail(ENAMETOOLONG, err, len, "the file name is too long");
    if (!*path)
        return fail(EINVAL, err, len, "no file name; give one, as in --disk disk.img");
    while (*arg) {
        if (!take_word(&arg, word, sizeof word))
            return fail(EINVAL, err, len, "a word is too long; it takes ro, direct and serial=S");
        if (!strcmp(word, "ro")) {
            f->read_only = true;
        } else if (!strcmp(word, "direct")) {
            f->direct = true;
        } else if (!strncmp(word, "serial=", 7)) {
            if (!word[7] || strlen(word + 7) > BLK_SERIAL)
                return fail(EINVAL, err, len, "a serial has 1 to %u characters", BLK_SERIAL);
            memset(f->serial, 0, sizeof f->serial);
            memcpy(f->serial, word + 7, strlen(word + 7));
        } else {
            return fail(EINVAL, err, len,
                        "'%s' is not known; after the file it takes ro, direct and serial=S", word);
        }
    }
    return 0;
}

static int cannot_open(int error, const struct blk_file *f, char *err, size_t len)
{
    switch (error) {
    case ENOENT:
        return fail(error, err, len, "no such file; make one with truncate -s 1G FILE");
    case EISDIR:
        return fail(error, err, len, "a directory; a disk is an image file or a block device");
    case EACCES:
    case EPERM:
    case EROFS:
        if (!f->read_only)
            return fail(error, err, len, "cannot be written: %s; add ,ro to have it read-only",
                        strerror(error));
        break;
    case EINVAL:
        if (f->direct)
            return fail(error, err, len, "its file system has no direct I/O; leave ,direct out");
    }
    return fail(error, err, len, "cannot be opened: %s", strerror(error));
}

/* What direct I/O asks of offsets and memory. */
static void alignments(struct blk_file *f, bool device)
{
    int size = 0;

    f->block = 512;
    if (device && !ioctl(f->fd, BLKSSZGET, &size) && size >= 512 && size <= 4096)
        f->block = (uint32_t)size;
#ifdef STATX_DIOALIGN
    struct statx x;

    if (f->direct && !statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) &&
        x.stx_mask & STATX_DIOALIGN && x.stx_dio_offset_align >= 512 &&
        x.stx_dio_offset_align <= 4096)
        f->block = x.stx_dio_offset_align;
#endif
    if (f->block & (f->block - 1))
        f->block = 4096;
    f->memory_align = f->block;
}

/* Through a descriptor of its own: the kernel lets go of a ring's files some time after its process
 * has ended, and the lock of the next run must not wait for that. It stays open to the end. */
static int lock_file(const char *path, const struct blk_file *f, const struct stat *st, char *err,
                     size_t len)
{
    struct flock lock = {.l_type = f->read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    /* A device that is to be written must not be mounted or belong to a RAID: O_EXCL. */
    bool claim = S_ISBLK(st->st_mode) && !f->read_only;
    int fd = open(path, (f->read_only ? O_RDONLY : O_RDWR) | (claim ? O_EXCL : 0) | O_CLOEXEC |
                            O_NOCTTY | O_NONBLOCK);
    struct stat now;

    if (fd < 0 && errno == EBUSY)
        return fail(EBUSY, err, len, "in use on the host; unmount it, or give ,ro");
    if (fd < 0 || fstat(fd, &now) || now.st_dev != st->st_dev || now.st_ino != st->st_ino)
        return fail(EBUSY, err, len, "it was replaced while it was being opened; try again");
    /* A file system without locks is not held against the user. */
    if (fcntl(fd, F_OFD_SETLK, &lock) && (errno == EAGAIN || errno == EACCES)) {
        close(fd);
        return fail(EBUSY, err, len,
                    "in use by another disk or mayfly; only with ,ro on all can it be shared");
    }
    return 0;
}

int blk_file_open(const char *arg, struct blk_file *f, char *err, size_t len)
{
    char path[PATH_LEN];
    struct stat st;

    *f = (struct blk_file){.fd = -1};
    int r = parse(arg ? arg : "", path, f, err, len);

    if (r)
        return r;
    const char *base = strrchr(path, '/');

    base = base ? base + 1 : path;
    snprintf(f->label, sizeof f->label, "disk '%.100s'", path);
    if (!f->serial[0])
        memcpy(f->serial, base, strnlen(base, BLK_SERIAL));
    /* Non-blocking: a FIFO would wait for its other end. */
    f->fd = open(path, (f->read_only ? O_RDONLY : O_RDWR) | (f->direct ? O_DIRECT : 0) | O_CLOEXEC |
                           O_NOCTTY | O_NONBLOCK);
    if (f->fd < 0)
        return cannot_open(errno, f, err, len);
    if (fstat(f->fd, &st))
        st.st_mode = 0;
    off_t end = lseek(f->fd, 0, SEEK_END);

    alignments(f, S_ISBLK(st.st_mode));
    f->size = end > 0 ? (uint64_t)end : 0;
    if (S_ISDIR(st.st_mode))
        r = cannot_open(EISDIR, f, err, len);
    else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        r = fail(EINVAL, err, len, "neither a file nor a block device");
    else if (!f->size)
        r = fail(EINVAL, err, len, "empty; give it a size with truncate -s 1G FILE");
    else if (f->size % f->block)
        r = fail(EINVAL, err, len,
                 "its size, %llu bytes, is not a multiple of %u; round it up with truncate -s %%%u",
                 (unsigned long long)f->size, f->block, f->block);
    if (!r)
        r = lock_file(path, f, &st, err, len);
    if (r) {
        close(f->fd);
        f->fd = -1;
    }
    return r;
}
