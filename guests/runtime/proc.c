/* /proc/self and the few files of /etc and /sys that C libraries and runtimes look for. */
#include <asm/mman.h>
#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/hostfs.h"
#include "guests/runtime/net.h"
#include "guests/runtime/path.h"
#include "guests/runtime/process.h"
#include "guests/runtime/users.h"
#include "guests/runtime/vm.h"

static const char *home = "/";
const struct inode *proc_asked;

static size_t make_maps(char *out, size_t size)
{
    size_t n = 0;

    for (struct vma *v = vmas; v && n + 160 < size; v = v->next) {
        const char *name = v->name ? v->name : v->inode == program_inode ? program_path : "";

        format(out + n, size - n, "%x-%x %s%s%s%s %x 00:00 %d %s\n", v->start, v->end,
               v->prot & PROT_READ ? "r" : "-", v->prot & PROT_WRITE ? "w" : "-",
               v->prot & PROT_EXEC ? "x" : "-", v->shared ? "s" : "p", v->inode ? v->offset : 0,
               v->inode ? v->inode->ino : 0, name);
        n += length(out + n);
    }
    return n;
}

static uint64_t mapped_bytes(void)
{
    uint64_t n = 0;

    for (struct vma *v = vmas; v; v = v->next)
        n += v->end - v->start;
    return n;
}

/* The thread whose files are asked for: of /proc/self/task/N, else the first. */
static struct thread *asked(void)
{
    struct thread *t = proc_asked->rdev ? thread_find((uint32_t)proc_asked->rdev) : NULL;

    return t ? t : current;
}

static const char *state_of(const struct thread *t)
{
    return t->state == READY ? "R" : "S";
}

static size_t make_status(char *out, size_t size)
{
    uint64_t used = (frames_total() - frames_free()) * 4, tid = proc_asked->rdev;
    const struct thread *t = asked();
    char name[NAME_BYTES];
    size_t n;

    thread_name(t, name);
    format(out, size,
           "Name:\t%s\nUmask:\t%s%d%d%d\nState:\t%s\nTgid:\t1\nNgid:\t0\nPid:\t%d\nPPid:\t0\n"
           "TracerPid:\t0\nUid:\t%d\t%d\t%d\t%d\nGid:\t%d\t%d\t%d\t%d\nFDSize:\t%d\n",
           name, "0", (uint64_t)umask_now >> 6, (uint64_t)umask_now >> 3 & 7,
           (uint64_t)umask_now & 7, t->state == READY ? "R (running)" : "S (sleeping)",
           tid ? tid : 1, (uint64_t)user.real, (uint64_t)user.effective, (uint64_t)user.saved,
           (uint64_t)user.file, (uint64_t)group.real, (uint64_t)group.effective,
           (uint64_t)group.saved, (uint64_t)group.file, (uint64_t)MAX_FDS);
    n = length(out);
    n += users_list(out + n, size - n);
    format(out + n, size - n,
           "VmPeak:\t%d kB\nVmSize:\t%d kB\nVmLck:\t0 kB\nVmHWM:\t%d kB\nVmRSS:\t%d kB\n"
           "Threads:\t%d\nSigBlk:\t%x\nCapEff:\t%x\nCpus_allowed:\t1\nCpus_allowed_list:\t0\n",
           mapped_bytes() / 1024, mapped_bytes() / 1024, used, used, (uint64_t)thread_count(),
           t->mask, users_capabilities());
    return n + length(out + n);
}

static size_t make_stat(char *out, size_t size)
{
    const struct thread *t = asked();
    char name[NAME_BYTES];

    thread_name(t, name);
    format(out, size,
           "%d (%s) %s 0 1 1 0 -1 4194304 0 0 0 0 %d 0 0 0 20 0 %d 0 0 %d %d "
           "18446744073709551615 0 0 %d 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
           proc_asked->rdev ? proc_asked->rdev : 1, name, state_of(t),
           process_cpu_ns() / (NS / 100), (uint64_t)thread_count(), mapped_bytes(),
           frames_total() - frames_free(), stack_top);
    return length(out);
}

static size_t make_statm(char *out, size_t size)
{
    uint64_t used = frames_total() - frames_free();

    format(out, size, "%d %d 0 0 0 %d 0\n", mapped_bytes() / PAGE, used, used);
    return length(out);
}

static size_t program_strings(char *out, size_t size, uint64_t from, uint64_t to)
{
    size_t n = least(size, to - from);

    return copy_in(out, from, n) ? 0 : n;
}

static size_t make_cmdline(char *out, size_t size)
{
    return program_strings(out, size, arg_start, arg_end);
}

static size_t make_environ(char *out, size_t size)
{
    return program_strings(out, size, env_start, env_end);
}

static size_t make_auxv(char *out, size_t size)
{
    (void)size;
    copy(out, saved_auxv, saved_auxv_bytes);
    return saved_auxv_bytes;
}

/* A thread's name, which may be written too. */
static int64_t comm_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    const struct thread *t = thread_find((uint32_t)f->inode->rdev);
    char name[NAME_BYTES + 1];

    if (!t)
        return -ESRCH;
    thread_name(t, name);
    size_t n = length(name);

    name[n++] = '\n';
    if (*pos >= n)
        return 0;
    n = least(n - *pos, len);
    if (copy_out(buf, name + *pos, n))
        return -EFAULT;
    *pos += n;
    return (int64_t)n;
}

static int64_t comm_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct thread *t = thread_find((uint32_t)f->inode->rdev);

    (void)pos;
    return !t ? -ESRCH : thread_set_name(t, buf, len) ? -EFAULT : (int64_t)len;
}

static unsigned comm_poll(struct file *f)
{
    return regular_ops.poll(f);
}

static const struct file_ops comm_ops = {
    .read = comm_read, .write = comm_write, .poll = comm_poll, .seekable = true};

/* /proc/self/task: what is there of each thread. */
void proc_task(struct inode *dir, uint64_t tid)
{
    static const struct {
        const char *name;
        size_t (*make)(char *, size_t);
    } files[] = {{"comm", NULL}, {"stat", make_stat}, {"status", make_status}};

    for (unsigned k = 0; k < sizeof files / sizeof files[0]; k++) {
        struct inode *i = inode_new(S_IFREG | (files[k].make ? 0444 : 0644));

        if (!i)
            return;
        i->rdev = tid;
        i->make = files[k].make;
        if (!i->make)
            i->ops = &comm_ops;
        dir_add(dir, files[k].name, length(files[k].name), i);
        inode_drop(i);
    }
}

static size_t make_meminfo(char *out, size_t size)
{
    format(out, size,
           "MemTotal:       %d kB\nMemFree:        %d kB\nMemAvailable:   %d kB\n"
           "Buffers:        0 kB\nCached:         0 kB\nSwapTotal:      0 kB\n"
           "SwapFree:       0 kB\n",
           frames_total() * 4, frames_free() * 4, frames_free() * 4);
    return length(out);
}

static size_t make_uptime(char *out, size_t size)
{
    uint64_t t = process_cpu_ns();

    format(out, size, "%d.00 %d.00\n", t / NS, 0ull);
    return length(out);
}

static size_t make_loadavg(char *out, size_t size)
{
    format(out, size, "0.00 0.00 0.00 1/%d 1\n", (uint64_t)thread_count());
    return length(out);
}

static size_t make_mounts(char *out, size_t size)
{
    size_t n = 0;

    format(out, size, root->node ? "" : "none / tmpfs rw 0 0\n");
    n = length(out);
    for (unsigned i = 0; i < SHARES && size - n > 300; i++) {
        char path[256];
        struct inode *dir = hostfs_share(i);

        if (!dir || path_of(dir, path, sizeof path) < 0)
            continue;
        format(out + n, size - n, "share%d %s virtiofs rw 0 0\n", (uint64_t)i, path);
        n += length(out + n);
    }
    format(out + n, size - n, "proc /proc proc rw 0 0\n");
    return n + length(out + n);
}

static size_t make_cpuinfo(char *out, size_t size)
{
    format(out, size,
           "processor\t: 0\nmodel name\t: mayfly virtual CPU\ncpu MHz\t\t: %d.000\n"
           "siblings\t: 1\ncpu cores\t: 1\n\n",
           boot.tsc_hz / 1000000);
    return length(out);
}

static void place_made(const char *path, size_t (*make)(char *, size_t))
{
    struct inode *i = inode_new(S_IFREG | 0444);

    i->make = make;
    fs_place(path, i);
}

static void place_magic(const char *path, uint64_t what)
{
    struct inode *i = inode_new(S_IFLNK | 0777);

    i->rdev = what;
    fs_place(path, i);
}

void proc_resolve(struct inode *link, char *out, size_t size)
{
    if (link->rdev >= LINK_FD) {
        procfd_resolve(link->rdev - LINK_FD, out, size);
    } else if (link->rdev == LINK_EXE) {
        if (program_path[0] != '/')
            format(out, size, "%s%s", home, program_name());
        else
            format(out, size, "%s", program_path);
    } else if (link->rdev != LINK_CWD || path_of(cwd, out, size) < 0) {
        format(out, size, "/");
    }
}

static const struct {
    const char *path, *text;
} texts[] = {{"/sys/devices/system/cpu/online", "0\n"},
             {"/sys/devices/system/cpu/possible", "0\n"},
             {"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n"},
             {"/proc/sys/vm/overcommit_memory", "0\n"},
             {"/proc/sys/kernel/ngroups_max", "65536\n"},
             {"/proc/sys/kernel/osrelease", RELEASE "\n"},
             {"/proc/sys/kernel/hostname", "mayfly\n"},
             {"/proc/sys/kernel/pid_max", "32768\n"},
             {"/proc/sys/kernel/cap_last_cap", "40\n"},
             {"/proc/sys/fs/pipe-max-size", "1048576\n"},
             {"/proc/version", "Linux version " RELEASE " (mayfly)\n"},
             {"/proc/filesystems", "nodev\ttmpfs\nnodev\tproc\nnodev\tvirtiofs\n"},
             {"/proc/self/cgroup", "0::/\n"}};

static void place_directory(const char *path, uint32_t mode)
{
    fs_place(path, inode_new(S_IFDIR | mode));
}

void proc_init(void)
{
    static const struct {
        const char *path;
        size_t (*make)(char *, size_t);
    } made[] = {{"/proc/self/maps", make_maps},       {"/proc/self/status", make_status},
                {"/proc/self/stat", make_stat},       {"/proc/self/statm", make_statm},
                {"/proc/self/cmdline", make_cmdline}, {"/proc/self/environ", make_environ},
                {"/proc/self/auxv", make_auxv},       {"/proc/meminfo", make_meminfo},
                {"/proc/uptime", make_uptime},        {"/proc/cpuinfo", make_cpuinfo},
                {"/proc/loadavg", make_loadavg},      {"/proc/mounts", make_mounts},
                {"/proc/self/mounts", make_mounts}};

    for (unsigned i = 0; i < sizeof made / sizeof made[0]; i++)
        place_made(made[i].path, made[i].make);
    struct inode *comm = inode_new(S_IFREG | 0644);

    comm->rdev = 1;
    comm->ops = &comm_ops;
    fs_place("/proc/self/comm", comm);
    place_magic("/proc/self/exe", LINK_EXE);
    place_magic("/proc/self/cwd", LINK_CWD);
    place_magic("/proc/self/root", LINK_ROOT);
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct inode *f = inode_new(S_IFREG | 0444);

        f->text = texts[i].text;
        fs_place(texts[i].path, f);
    }
    struct inode *link = inode_new(S_IFLNK | 0777);

    link->target = kalloc(5);
    copy(link->target, "self", 5);
    fs_place("/proc/1", link);
    procfd_init();
}

/* The ports that programs ask for by name (IANA's register). */
static const char services[] = "ftp\t21/tcp\nssh\t22/tcp\ntelnet\t23/tcp\nsmtp\t25/tcp\n"
                               "domain\t53/tcp\ndomain\t53/udp\ntftp\t69/udp\nhttp\t80/tcp\n"
                               "pop3\t110/tcp\nntp\t123/udp\nimap2\t143/tcp\nsnmp\t161/udp\n"
                               "ldap\t389/tcp\nhttps\t443/tcp\nsyslog\t514/udp\nimaps\t993/tcp\n";

void etc_init(void)
{
    if (!root->node) {
        fs_text("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n"
                               "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n");
        fs_text("/etc/group", "root:x:0:\nnobody:x:65534:\nnogroup:x:65534:\n");
        fs_text("/etc/hosts", net_hosts ? net_hosts() : "127.0.0.1\tlocalhost\n");
        fs_text("/etc/hostname", "mayfly\n");
        fs_text("/etc/resolv.conf", net_resolvers ? net_resolvers() : "nameserver 127.0.0.1\n");
        fs_text("/etc/services", services);
        fs_text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
        place_directory("/tmp", 01777);
        place_directory("/var/tmp", 01777);
        place_directory("/root", 0700);
    }
    /* The program's own file, where it says it is and under its plain name in the root. */
    inode_hold(program_inode);
    if (program_path[0] == '/') {
        fs_place(program_path, program_inode);
    } else {
        char path[256];

        format(path, sizeof path, "/%s", program_name());
        fs_place(path, program_inode);
    }
}
