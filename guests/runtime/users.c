/*
 * Who the program is: users, groups, capabilities. It begins as root and may become somebody else,
 * for good if it wants to, by the rules of credentials(7); files keep their owners and modes, but
 * nobody is refused for them. One set for all threads, as C libraries make of a thread's.
 */
#include <linux/capability.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/process.h"
#include "guests/runtime/users.h"

#define KEEP (~0u) /* "as it is" */
#define ALL  ((2ull << CAP_LAST_CAP) - 1)

struct ids user, group;
static struct caps {
    uint64_t effective, permitted, inheritable;
} caps = {ALL, ALL, 0};
static bool keep_caps;

static bool may(unsigned capability)
{
    return caps.effective >> capability & 1;
}

static bool is_one_of(const struct ids *i, uint32_t id)
{
    return id == i->real || id == i->effective || id == i->saved;
}

/* Root's powers come and go with its number. */
static void user_changed(const struct ids *was)
{
    bool had = !was->real || !was->effective || !was->saved;
    bool has = !user.real || !user.effective || !user.saved;

    user.file = user.effective;
    if (had && !has && !keep_caps)
        caps.permitted = 0;
    if (!was->effective && user.effective)
        caps.effective = 0;
    else if (was->effective && !user.effective)
        caps.effective = caps.permitted;
    caps.effective &= caps.permitted;
}

static void changed(struct ids *of, struct ids to)
{
    struct ids was = *of;

    *of = to;
    of->file = of->effective;
    if (of == &user)
        user_changed(&was);
}

/* Of users and of groups the same. */
static int64_t set_id(struct ids *of, bool any, uint32_t id)
{
    struct ids to = *of;

    if (id == KEEP)
        return -EINVAL;
    if (!any && id != to.real && id != to.saved)
        return -EPERM;
    if (any)
        to.real = to.saved = id;
    to.effective = id;
    changed(of, to);
    return 0;
}

static int64_t set_two(struct ids *of, bool any, uint32_t real, uint32_t effective)
{
    struct ids to = *of;

    if (!any && ((real != KEEP && real != of->real && real != of->effective) ||
                 (effective != KEEP && !is_one_of(of, effective))))
        return -EPERM;
    if (real != KEEP)
        to.real = real;
    if (effective != KEEP)
        to.effective = effective;
    if (real != KEEP || (effective != KEEP && effective != of->real))
        to.saved = to.effective;
    changed(of, to);
    return 0;
}

static int64_t set_three(struct ids *of, bool any, uint32_t real, uint32_t effective,
                         uint32_t saved)
{
    struct ids to = *of;

    if (!any && ((real != KEEP && !is_one_of(of, real)) ||
                 (effective != KEEP && !is_one_of(of, effective)) ||
                 (saved != KEEP && !is_one_of(of, saved))))
        return -EPERM;
    if (real != KEEP)
        to.real = real;
    if (effective != KEEP)
        to.effective = effective;
    if (saved != KEEP)
        to.saved = saved;
    changed(of, to);
    return 0;
}

static int64_t set_file(struct ids *of, bool any, uint32_t id)
{
    uint32_t was = of->file;

    if (id != KEEP && (any || is_one_of(of, id) || id == was))
        of->file = id;
    return was;
}

static int64_t three_out(const struct ids *i, uint64_t a, uint64_t b, uint64_t c)
{
    return copy_out(a, &i->real, 4) || copy_out(b, &i->effective, 4) || copy_out(c, &i->saved, 4)
               ? -EFAULT
               : 0;
}

int64_t sys_getuid(void)
{
    return user.real;
}

int64_t sys_geteuid(void)
{
    return user.effective;
}

int64_t sys_getgid(void)
{
    return group.real;
}

int64_t sys_getegid(void)
{
    return group.effective;
}

int64_t sys_setuid(uint64_t id)
{
    return set_id(&user, may(CAP_SETUID), (uint32_t)id);
}

int64_t sys_setgid(uint64_t id)
{
    return set_id(&group, may(CAP_SETGID), (uint32_t)id);
}

int64_t sys_setreuid(uint64_t real, uint64_t effective)
{
    return set_two(&user, may(CAP_SETUID), (uint32_t)real, (uint32_t)effective);
}

int64_t sys_setregid(uint64_t real, uint64_t effective)
{
    return set_two(&group, may(CAP_SETGID), (uint32_t)real, (uint32_t)effective);
}

int64_t sys_setresuid(uint64_t real, uint64_t effective, uint64_t saved)
{
    return set_three(&user, may(CAP_SETUID), (uint32_t)real, (uint32_t)effective, (uint32_t)saved);
}

int64_t sys_setresgid(uint64_t real, uint64_t effective, uint64_t saved)
{
    return set_three(&group, may(CAP_SETGID), (uint32_t)real, (uint32_t)effective, (uint32_t)saved);
}

int64_t sys_setfsuid(uint64_t id)
{
    return set_file(&user, may(CAP_SETUID), (uint32_t)id);
}

int64_t sys_setfsgid(uint64_t id)
{
    return set_file(&group, may(CAP_SETGID), (uint32_t)id);
}

int64_t sys_getresuid(uint64_t a, uint64_t b, uint64_t c)
{
    return three_out(&user, a, b, c);
}

int64_t sys_getresgid(uint64_t a, uint64_t b, uint64_t c)
{
    return three_out(&group, a, b, c);
}

/* --- further groups --- */

#define GROUPS 64u
static uint32_t groups[GROUPS];
static uint32_t ngroups;

int64_t sys_getgroups(uint64_t most, uint64_t out)
{
    if ((int32_t)most < 0 || (most && (uint32_t)most < ngroups))
        return -EINVAL;
    return most && copy_out(out, groups, ngroups * 4) ? -EFAULT : (int64_t)ngroups;
}

int64_t sys_setgroups(uint64_t n, uint64_t at)
{
    if (!may(CAP_SETGID))
        return -EPERM;
    if ((uint32_t)n > GROUPS)
        return -EINVAL;
    if (copy_in(groups, at, (uint32_t)n * 4))
        return -EFAULT;
    ngroups = (uint32_t)n;
    return 0;
}

size_t users_list(char *out, size_t size)
{
    size_t n = 0;

    format(out, size, "Groups:\t");
    for (uint32_t i = 0; i < ngroups && (n = length(out)) + 16 < size; i++)
        format(out + n, size - n, "%d ", (uint64_t)groups[i]);
    n = length(out);
    format(out + n, size - n, "\n");
    return n + 1;
}

uint64_t users_capabilities(void)
{
    return caps.effective;
}

/* --- capabilities: kept by capabilities(7), and asked for the calls above --- */

/* The header says how many words the sets have; 0: it is none that is known. */
static int64_t words_of(uint64_t header, unsigned *words)
{
    struct __user_cap_header_struct h;

    if (copy_in(&h, header, sizeof h))
        return -EFAULT;
    *words = h.version == _LINUX_CAPABILITY_VERSION_1 ? 1
             : h.version == _LINUX_CAPABILITY_VERSION_2 || h.version == _LINUX_CAPABILITY_VERSION_3
                 ? 2
                 : 0;
    if (!*words) {
        h.version = _LINUX_CAPABILITY_VERSION_3;
        return copy_out(header, &h.version, 4);
    }
    return h.pid < 0 ? -EINVAL : h.pid && !thread_is_known((uint32_t)h.pid) ? -ESRCH : 0;
}

int64_t sys_capget(uint64_t header, uint64_t data)
{
    struct __user_cap_data_struct d[2];
    unsigned words;
    int64_t err = words_of(header, &words);

    if (err || !data)
        return err;
    if (!words)
        return -EINVAL;
    for (unsigned i = 0; i < words; i++)
        d[i] = (struct __user_cap_data_struct){(uint32_t)(caps.effective >> 32 * i),
                                               (uint32_t)(caps.permitted >> 32 * i),
                                               (uint32_t)(caps.inheritable >> 32 * i)};
    return copy_out(data, d, words * sizeof d[0]);
}

int64_t sys_capset(uint64_t header, uint64_t data)
{
    struct __user_cap_data_struct d[2] = {{0, 0, 0}, {0, 0, 0}};
    struct caps to = {0, 0, 0};
    unsigned words;
    int64_t err = words_of(header, &words);

    if (err)
        return err;
    if (!words)
        return -EINVAL;
    if (copy_in(d, data, words * sizeof d[0]))
        return -EFAULT;
    for (unsigned i = 0; i < words; i++) {
        to.effective |= (uint64_t)d[i].effective << 32 * i;
        to.permitted |= (uint64_t)d[i].permitted << 32 * i;
        to.inheritable |= (uint64_t)d[i].inheritable << 32 * i;
    }
    to.effective &= ALL;
    to.permitted &= ALL;
    to.inheritable &= ALL;
    if (to.permitted & ~caps.permitted || to.effective & ~to.permitted)
        return -EPERM;
    caps = to;
    return 0;
}

bool users_keep_caps(bool set, bool keep)
{
    if (set)
        keep_caps = keep;
    return keep_caps;
}
