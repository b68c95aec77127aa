/* Resource limits. Kept are all; those on descriptors, file sizes and address space are held. */
#include <linux/resource.h>
#include "guests/runtime/process.h"
#include "guests/runtime/vm.h"

#define UNLIMITED UINT64_MAX

static struct limit {
    uint64_t now, most;
} limits[RLIM_NLIMITS];
static bool known;

/* Made when somebody asks: most programs do not. */
static struct limit *limit(unsigned which)
{
    if (!known) {
        known = true;
        for (unsigned i = 0; i < RLIM_NLIMITS; i++)
            limits[i] = (struct limit){UNLIMITED, UNLIMITED};
        limits[RLIMIT_STACK].now = STACK_SIZE;
        limits[RLIMIT_NOFILE] = (struct limit){MAX_FDS, MAX_FDS};
        limits[RLIMIT_CORE].now = 0;
    }
    return &limits[which];
}

uint64_t limit_files(void)
{
    return known ? limits[RLIMIT_NOFILE].now : MAX_FDS;
}

static uint64_t mapped(void)
{
    uint64_t n = 0;

    for (const struct vma *v = vmas; v; v = v->next)
        n += v->end - v->start;
    return n;
}

bool limit_maps(uint64_t len)
{
    return !known || limits[RLIMIT_AS].now == UNLIMITED || mapped() + len <= limits[RLIMIT_AS].now;
}

int limit_write(uint64_t at, uint64_t *len)
{
    if (!known || limits[RLIMIT_FSIZE].now == UNLIMITED || !*len)
        return 0;
    uint64_t most = limits[RLIMIT_FSIZE].now;

    if (at >= most) {
        signal_send(current, SIGXFSZ, SI_USER, 0);
        return -EFBIG;
    }
    *len = least(*len, most - at);
    return 0;
}

int limit_size(uint64_t size)
{
    uint64_t one = 1;

    return size ? limit_write(size - 1, &one) : 0;
}

int64_t sys_prlimit64(uint64_t pid, uint64_t which, uint64_t new, uint64_t old)
{
    struct limit want;

    if ((uint32_t)pid > 1)
        return -ESRCH;
    if (which >= RLIM_NLIMITS)
        return -EINVAL;
    struct limit *l = limit((unsigned)which), was = *l;

    if (new) {
        if (copy_in(&want, new, sizeof want))
            return -EFAULT;
        if (want.now > want.most)
            return -EINVAL;
        if (which == RLIMIT_NOFILE && want.most > MAX_FDS)
            return -EPERM;
        *l = want;
    }
    return old ? copy_out(old, &was, sizeof was) : 0;
}

int64_t sys_getrlimit(uint64_t which, uint64_t out)
{
    return out ? sys_prlimit64(0, which, 0, out) : -EFAULT;
}

int64_t sys_setrlimit(uint64_t which, uint64_t at)
{
    return at ? sys_prlimit64(0, which, at, 0) : -EFAULT;
}
