/* What a process is told of itself, and what there is not. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "guests/check/check.h"

extern char **environ;

static int file_has(const char *name, const char *want)
{
    static char text[8192];
    FILE *f = fopen(name, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;

    text[n] = 0;
    if (f)
        fclose(f);
    for (size_t i = 0; i < n; i++) /* cmdline and environ: strings with their NULs */
        if (!text[i])
            text[i] = ' ';
    return strstr(text, want) != NULL;
}

static void proc(void)
{
    char name[200];
    int fd;

    check(file_has("/proc/self/maps", "[stack]") && file_has("/proc/self/maps", "r-xp"),
          "/proc/self/maps");
    check(file_has("/proc/self/status", "Threads:\t1\n"), "/proc/self/status");
    check(file_has("/proc/self/cmdline", "check process "), "/proc/self/cmdline");
    check(file_has("/proc/self/comm", "check\n"), "/proc/self/comm");
    check(file_has("/proc/self/stat", "(check)"), "/proc/self/stat");
    check(file_has("/proc/meminfo", "MemTotal:"), "/proc/meminfo");
    check(file_has("/proc/cpuinfo", "processor\t: 0"), "/proc/cpuinfo");
    ssize_t n = readlink("/proc/self/exe", name, sizeof name - 1);

    name[n > 0 ? n : 0] = 0;
    check(n > 5 && !strcmp(name + n - 6, "/check"), "/proc/self/exe");
    fd = open("/dev/null", O_RDONLY);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int again = open(name, O_RDONLY);

    check(fd >= 0 && again > fd, "/proc/self/fd/N");
    close(again);
    close(fd);
    if (mkdir("/tmp/check", 0700) == 0) {
        fd = open("/tmp/check/file", O_RDWR | O_CREAT, 0600);
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        char target[100] = "";
        struct stat st;

        check(readlink(name, target, sizeof target - 1) > 0 && !strcmp(target, "/tmp/check/file"),
              "is a link to the file");
        check(!stat(name, &st) && S_ISREG(st.st_mode) && !lstat(name, &st) && S_ISLNK(st.st_mode),
              "stat, lstat");
        int listed = 0;
        DIR *d = opendir("/proc/self/fd");

        for (struct dirent *e; d && (e = readdir(d));)
            listed += !strcmp(e->d_name, strrchr(name, '/') + 1);
        if (d)
            closedir(d);
        check(listed == 1, "and is listed");
        unlink("/tmp/check/file");
        close(fd);
        rmdir("/tmp/check");
    }
    check(file_has("/proc/mounts", " / ") && file_has("/proc/self/mounts", "/proc"), "mounts");
    check(file_has("/proc/version", "Linux version") && file_has("/proc/loadavg", "/"), "version");
}

void check_process(void)
{
    struct rlimit l;
    struct rusage u;
    struct utsname un;
    struct sysinfo si;
    cpu_set_t cpus;
    char name[16] = "";

    proc();
    check(!getrlimit(RLIMIT_NOFILE, &l) && l.rlim_cur >= 256, "descriptors");
    check(!getrlimit(RLIMIT_STACK, &l) && l.rlim_cur >= 1 << 20, "the stack's limit");
    check(getrlimit((enum {NONE = 99}) NONE, &l) == -1 && errno == EINVAL, "an unknown limit");
    check(!sched_getaffinity(0, sizeof cpus, &cpus) && CPU_COUNT(&cpus) >= 1 && CPU_ISSET(0, &cpus),
          "sched_getaffinity");
    check(sysconf(_SC_NPROCESSORS_ONLN) >= 1 && sysconf(_SC_PAGESIZE) == 4096, "sysconf");
    check(!uname(&un) && !strcmp(un.sysname, "Linux") && !strcmp(un.machine, "x86_64"), "uname");
    check(!sysinfo(&si) && si.totalram > 1 << 20 && si.mem_unit, "sysinfo");
    check(!getrusage(RUSAGE_SELF, &u) && u.ru_maxrss > 0, "getrusage");
    check(!prctl(PR_SET_NAME, "other") && !prctl(PR_GET_NAME, name) && !strcmp(name, "other"),
          "PR_SET_NAME");
    check(getpriority(PRIO_PROCESS, 0) == 0 && sched_get_priority_max(SCHED_FIFO) == 99,
          "priorities");
    check(getuid() == geteuid() && getgid() == getegid(), "users");
    umask(077);
    check(umask(022) == 077, "umask");
    check(inotify_init1(0) == -1 && errno == ENOSYS, "inotify: ENOSYS");
    char *const args[] = {(char *)(size_t) "/bin/true", NULL};

    check(execv("/bin/true", args) == -1 && errno == ENOSYS, "execve: ENOSYS");
    check(environ != NULL, "an environment");
}
