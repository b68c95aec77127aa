/* Signals that come from outside: caught, waited for, ignored, left alone; by the argument. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

static volatile sig_atomic_t got;

static void note(int sig)
{
    got = sig;
}

static void say(const char *s)
{
    (void)!write(1, s, strlen(s));
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    static const int some[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH};
    sigset_t set;

    sigemptyset(&set);
    for (unsigned i = 0; i < sizeof some / sizeof some[0]; i++)
        sigaddset(&set, some[i]);
    if (!strcmp(how, "caught") || !strcmp(how, "spin")) {
        for (unsigned i = 0; i < sizeof some / sizeof some[0]; i++)
            signal(some[i], note);
        say("ready\n");
        while (!got)
            if (*how == 'c')
                pause();
    } else if (!strcmp(how, "read")) {
        struct sigaction sa = {.sa_handler = note};
        char c;

        sigaction(SIGINT, &sa, NULL);
        say("ready\n");
        if (read(0, &c, 1) != -1)
            return 1;
    } else if (!strcmp(how, "blocked")) {
        int sig;

        sigprocmask(SIG_BLOCK, &set, NULL);
        say("ready\n");
        sigwait(&set, &sig);
        got = sig;
    } else if (!strcmp(how, "signalfd")) {
        struct signalfd_siginfo si;

        sigprocmask(SIG_BLOCK, &set, NULL);
        int fd = signalfd(-1, &set, 0);

        say("ready\n");
        if (read(fd, &si, sizeof si) == sizeof si)
            got = (int)si.ssi_signo;
    } else if (!strcmp(how, "ignored")) {
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        say("ready\n");
        sleep(3);
    } else if (!strcmp(how, "size")) {
        struct winsize w = {0};

        signal(SIGWINCH, note);
        say("ready\n");
        pause();
        ioctl(1, TIOCGWINSZ, &w);
        printf("size %d %d\n", w.ws_row, w.ws_col);
    } else {
        say("ready\n");
        for (;;)
            if (*how != 's')
                pause();
    }
    printf("signal %d\n", (int)got);
    return 40 + got;
}
