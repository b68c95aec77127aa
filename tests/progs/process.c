#define _GNU_SOURCE
/* What a program is and may: users, capabilities, scheduling, its threads' names; and calls with
 * what they must refuse. Each must come out as on the host, for root. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void check(int good, const char *name)
{
    printf("%s %s\n", good ? "PASS" : "FAIL", name);
}

static int fails(long result, int error)
{
    return result == -1 && errno == error;
}

static void listing(void)
{
    enum { MANY = 3000 };
    char name[32];
    int seen = 0;

    mkdir("many", 0755);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "many/file%06d", i);
        close(open(name, O_CREAT | O_WRONLY, 0644));
    }
    DIR *d = opendir("many");

    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') {
            unlinkat(dirfd(d), e->d_name, 0);
            seen++;
        }
    closedir(d);
    check(seen == MANY && !rmdir("many"), "a listing misses nothing when names go meanwhile");
}

static void names(void)
{
    struct stat a, b, st;
    int fd = open("one", O_CREAT | O_RDWR, 0644);

    (void)!write(fd, "data", 4);
    check(lseek(fd, 1, SEEK_DATA) == 1 && lseek(fd, 0, SEEK_HOLE) == 4 &&
              fails(lseek(fd, 4, SEEK_DATA), ENXIO),
          "SEEK_DATA, SEEK_HOLE");
    close(open("two", O_CREAT | O_RDWR, 0600));
    stat("one", &a);
    check(!renameat2(AT_FDCWD, "one", AT_FDCWD, "two", RENAME_EXCHANGE) && !stat("two", &b) &&
              a.st_ino == b.st_ino && !stat("one", &st) && st.st_size == 0,
          "RENAME_EXCHANGE");
    check(fails(renameat2(AT_FDCWD, "one", AT_FDCWD, "two", RENAME_NOREPLACE), EEXIST) &&
              fails(renameat2(AT_FDCWD, "one", AT_FDCWD, "none", RENAME_EXCHANGE), ENOENT) &&
              fails(renameat2(AT_FDCWD, "one", AT_FDCWD, "two", 8), EINVAL),
          "what renameat2 refuses");
    check(!chmod("two", 06770) && !chown("two", 1, 2) && !stat("two", &st) &&
              st.st_mode == 0100770 && st.st_uid == 1 && st.st_gid == 2,
          "chown takes privileges away");
    check(fails(unlinkat(AT_FDCWD, "two", 9999), EINVAL) &&
              fails(linkat(AT_FDCWD, "two", AT_FDCWD, "x", 1), EINVAL) &&
              fails(fstatat(AT_FDCWD, "two", &st, 9999), EINVAL) &&
              fails(fchownat(AT_FDCWD, "two", 0, 0, 9999), EINVAL),
          "flags nobody knows");
    struct timespec bad[2] = {{0, 1000000000}, {0, 0}};

    check(fails(utimensat(AT_FDCWD, "two", bad, 0), EINVAL), "a time that is none");
    int path = open("two", O_PATH), out = open("two", O_RDONLY);

    check(fails(fchmod(path, 0644), EBADF) && fails(fchown(path, 0, 0), EBADF), "O_PATH");
    check(fails(sendfile(out, fd, NULL, 1), EBADF), "sendfile to what is only read");
    struct iovec v = {&st, (size_t)-1};

    check(fails(readv(fd, &v, 1), EINVAL) && fails(preadv(fd, &v, 1, 0), EINVAL), "a length of -1");
    check(fails(dup3(fd, fd, 0), EINVAL) && fails(dup3(-1, -1, 0), EINVAL), "dup3 to itself");
    close(path);
    close(out);
    close(fd);
    unlink("one");
    unlink("two");
    struct statvfs s;

    check(!statvfs("/", &s) && s.f_files && s.f_ffree && s.f_blocks, "statvfs");
}

static void *unlock_later(void *fd)
{
    usleep(20000);
    return (void *)(long)flock(*(int *)fd, LOCK_UN);
}

static void locks(void)
{
    int a = open("locked", O_CREAT | O_RDWR, 0600), b = open("locked", O_RDWR), c = dup(a);
    struct flock l = {.l_type = F_WRLCK}, bad = {.l_type = 99};
    pthread_t t;

    check(!flock(a, LOCK_EX) && fails(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK) &&
              fails(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK) && !flock(c, LOCK_EX | LOCK_NB),
          "flock between two open files");
    check(!flock(c, LOCK_SH) && !flock(b, LOCK_SH) && fails(flock(a, LOCK_EX | LOCK_NB), EAGAIN) &&
              !flock(a, LOCK_SH),
          "shared by both");
    pthread_create(&t, NULL, unlock_later, &b);
    check(!flock(a, LOCK_EX), "waiting for the other");
    pthread_join(t, NULL);
    close(a);
    check(fails(flock(b, LOCK_EX | LOCK_NB), EAGAIN), "held by a duplicate");
    close(c);
    check(!flock(b, LOCK_EX | LOCK_NB) && fails(flock(b, 0), EINVAL) &&
              fails(flock(b, LOCK_SH | LOCK_EX), EINVAL),
          "and given up with the last");
    check(!fcntl(b, F_SETLK, &l) && !fcntl(b, F_GETLK, &l) && l.l_type == F_UNLCK &&
              fails(fcntl(b, F_SETLK, &bad), EINVAL) && fails(fcntl(b, F_SETLK, NULL), EFAULT),
          "record locks");
    close(b);
    unlink("locked");
}

static void shared(void)
{
    int fd = shm_open("/mayfly-test", O_CREAT | O_EXCL | O_RDWR, 0600);

    check(fd >= 0 && !ftruncate(fd, 4096) &&
              fails(shm_open("/mayfly-test", O_CREAT | O_EXCL, 0), EEXIST) &&
              !shm_unlink("/mayfly-test"),
          "shm_open");
    close(fd);
    sem_t *s = sem_open("/mayfly-test", O_CREAT, 0600, 1);

    check(s != SEM_FAILED && !sem_wait(s) && fails(sem_trywait(s), EAGAIN) && !sem_close(s) &&
              !sem_unlink("/mayfly-test"),
          "sem_open");
}

static void memory(void)
{
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    check(fails(msync(p, 4096, MS_ASYNC | MS_SYNC), EINVAL) && fails(msync(p, 4096, 64), EINVAL) &&
              !msync(p, 4096, MS_SYNC),
          "msync");
    check(fails(madvise(p, 4096, 1212), EINVAL) && !madvise(p, 4096, MADV_WILLNEED), "madvise");
    munmap(p + 4096, 4096);
    check(fails(madvise(p, 8192, MADV_NORMAL), ENOMEM) && fails(msync(p, 8192, MS_SYNC), ENOMEM),
          "of what is not mapped");
    munmap(p, 4096);
    static char much[128 << 10] __attribute__((aligned(4096)));
    struct iovec v = {much, sizeof much};
    int fd[2];

    check(!pipe(fd) && vmsplice(fd[1], &v, 1, 0) == 65536 &&
              fails(vmsplice(fd[1], &v, 1, SPLICE_F_NONBLOCK), EAGAIN),
          "vmsplice gives what there is room for");
    close(fd[0]);
    close(fd[1]);
}

static void waits(void)
{
    struct timeval tv = {-1, 0};
    fd_set set;

    FD_ZERO(&set);
    check(fails(select(-1, NULL, NULL, NULL, NULL), EINVAL) &&
              fails(select(0, NULL, NULL, NULL, &tv), EINVAL),
          "what select refuses");
    FD_SET(40, &set);
    check(fails(select(41, &set, NULL, NULL, NULL), EBADF), "select of what is not open");
    check(fails(waitpid(-1, NULL, -1), EINVAL) && fails(waitpid(-1, NULL, WNOHANG), ECHILD) &&
              fails(waitid(P_ALL, 0, NULL, WNOHANG), EINVAL),
          "no children");
    check(fails(syscall(SYS_tkill, -1, 0), EINVAL) &&
              fails(syscall(SYS_tgkill, -1, 1, 0), EINVAL) && fails(kill(getpid(), 65), EINVAL) &&
              !kill(gettid(), 0),
          "kill");
    struct timespec ts;

    check(fails(clock_gettime(-1073743192, &ts), EINVAL) && !clock_gettime((clockid_t)-6, &ts),
          "clocks of processes");
}

static void *idle(void *started)
{
    sem_post(started);
    pause();
    return NULL;
}

static int task_status(int tid, const char *what, char *line, int size)
{
    char name[64];

    snprintf(name, sizeof name, "/proc/self/task/%d/status", tid);
    FILE *f = fopen(name, "r");

    while (f && fgets(line, size, f))
        if (!strncmp(line, what, strlen(what))) {
            fclose(f);
            return 1;
        }
    if (f)
        fclose(f);
    return 0;
}

static void threads(void)
{
    char name[32], own[16] = "", line[128];
    struct sched_param p = {5};
    int count = 0, policy;
    pthread_t t;
    sem_t started;

    prctl(PR_GET_NAME, own);
    check(!strncmp(own, "process.", 8), "a thread begins with the program's name");
    sem_init(&started, 0, 0);
    pthread_create(&t, NULL, idle, &started);
    sem_wait(&started);
    check(!pthread_setname_np(t, "another") && !pthread_getname_np(t, name, sizeof name) &&
              !strcmp(name, "another"),
          "the name of another thread");
    check(!prctl(PR_SET_NAME, "a name that is too long") && !prctl(PR_GET_NAME, name) &&
              !strcmp(name, "a name that is "),
          "15 characters");
    DIR *d = opendir("/proc/self/task");

    for (struct dirent *e; d && (e = readdir(d));)
        count += e->d_name[0] != '.';
    if (d)
        closedir(d);
    check(count == 2, "/proc/self/task");
    check(task_status(gettid(), "Name:", line, sizeof line) &&
              !strcmp(line, "Name:\ta name that is \n"),
          "its status");
    check(!sched_setscheduler(0, SCHED_RR, &p) && sched_getscheduler(0) == SCHED_RR &&
              !sched_getparam(0, &p) && p.sched_priority == 5,
          "sched_setscheduler");
    check(!pthread_getschedparam(t, &policy, &p) && policy == SCHED_OTHER, "of this thread only");
    p.sched_priority = 0;
    check(fails(sched_setparam(0, &p), EINVAL) && !sched_setscheduler(0, SCHED_OTHER, &p),
          "a priority that is none");
    check(!setpriority(PRIO_PROCESS, 0, 7) && getpriority(PRIO_PROCESS, 0) == 7 && nice(20) == 19,
          "nice");
    check(fails(getpgid(-99), ESRCH) && fails(getsid(-99), ESRCH), "groups that are not there");
}

static void settings(void)
{
    int n = 7;

    check(!prctl(PR_SET_KEEPCAPS, 1) && prctl(PR_GET_KEEPCAPS) == 1 && !prctl(PR_SET_KEEPCAPS, 0) &&
              fails(prctl(PR_SET_KEEPCAPS, 2), EINVAL),
          "PR_SET_KEEPCAPS");
    check(!prctl(PR_SET_PDEATHSIG, SIGTERM) && !prctl(PR_GET_PDEATHSIG, &n) && n == SIGTERM &&
              fails(prctl(PR_SET_PDEATHSIG, 99), EINVAL),
          "PR_SET_PDEATHSIG");
    check(prctl(PR_GET_DUMPABLE) == 1 && !prctl(PR_SET_DUMPABLE, 0) && !prctl(PR_GET_DUMPABLE),
          "PR_SET_DUMPABLE");
    check(!prctl(PR_SET_TIMERSLACK, 1000) && prctl(PR_GET_TIMERSLACK) == 1000, "PR_SET_TIMERSLACK");
    check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
              fails(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL),
          "PR_SET_NO_NEW_PRIVS");
    check(fails(prctl(12345), EINVAL), "what prctl does not know");
}

static unsigned effective(int version)
{
    struct __user_cap_header_struct h = {(unsigned)version, 0};
    struct __user_cap_data_struct d[2] = {{0, 0, 0}, {0, 0, 0}};

    return syscall(SYS_capget, &h, d) ? 0 : d[0].effective;
}

static void users(void)
{
    uid_t r, e, s;
    gid_t groups[2] = {4, 20}, got[4];
    char line[128];
    struct stat st;

    check(effective(_LINUX_CAPABILITY_VERSION_1) >> CAP_SETUID & 1 &&
              effective(_LINUX_CAPABILITY_VERSION_3) >> CAP_SETUID & 1 && !effective(1),
          "root's capabilities");
    check(!setgroups(2, groups) && getgroups(4, got) == 2 && got[1] == 20, "setgroups");
    check(!setresgid(1, 2, 3) && !getresgid(&r, &e, &s) && r == 1 && e == 2 && s == 3 &&
              getgid() == 1 && getegid() == 2,
          "setresgid");
    check(!setresuid(1000, 0, 1001) && !setresuid(0, 1000, 0) && getuid() == 0 && geteuid() == 1000,
          "setresuid");
    check(!effective(_LINUX_CAPABILITY_VERSION_3), "no capabilities meanwhile");
    check(setfsuid(0) == 1000 && setfsuid((uid_t)-1) == 0, "setfsuid");
    check(fails(setgroups(0, NULL), EPERM) && fails(setuid(77), EPERM) && !seteuid(0), "and back");
    int fd = open("owned", O_CREAT | O_RDWR, 0600);

    check(!fstat(fd, &st) && st.st_uid == 0 && st.st_gid == 2, "a new file is the group's");
    close(fd);
    unlink("owned");
    check(!setgid(65534) && !setuid(65534) && !getresuid(&r, &e, &s) && r == 65534 && e == 65534 &&
              s == 65534,
          "nobody");
    check(fails(setuid(0), EPERM) && fails(seteuid(0), EPERM) && fails(setgid(0), EPERM) &&
              fails(setreuid(0, 0), EPERM) && fails(setresuid(-1, -1, 0), EPERM),
          "for good");
    check(task_status(gettid(), "Uid:", line, sizeof line) &&
              !strcmp(line, "Uid:\t65534\t65534\t65534\t65534\n"),
          "/proc says so");
}

int main(void)
{
    char dir[] = "/tmp/processXXXXXX";

    umask(022);
    if (!mkdtemp(dir) || chdir(dir))
        return 1;
    listing();
    names();
    shared();
    locks();
    memory();
    waits();
    threads();
    settings();
    rmdir(dir);
    chdir("/tmp");
    users();
    return 0;
}
