/*
 * monitor/: command line, machine, bus, boot protocols, legacy devices, event loop, statistics,
 * errors. It may call every other room; none of them calls it but through struct machine_ops.
 */
#include "monitor/core.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* A closed standard stream would make the next file we open the guest's console. /dev/null takes
 * its place, opened so that using the stream still fails as a closed one does. */
static void hold_std_fds(void)
{
    struct pollfd p[3] = {{.fd = 0}, {.fd = 1}, {.fd = 2}};

    if (poll(p, 3, 0) <= 0)
        return;
    for (int fd = 0; fd < 3; fd++)
        if (p[fd].revents & POLLNVAL)
            (void)!open("/dev/null", fd ? O_RDONLY : O_WRONLY);
}

static int usage(const char *word)
{
    if (word)
        msg_error(
            "'%s' is not a command; it is mayfly run GUEST, mayfly hvt IMAGE or mayfly check (see "
            "--help)",
            word);
    else
        msg_error("no command given; try: mayfly run hello, or mayfly --help");
    return STATUS_FAILURE;
}

int main(int argc, char **argv)
{
    tsc_start();
    hold_std_fds();
    if (argc < 2)
        return usage(NULL);

    const char *cmd = argv[1];

    if (!strcmp(cmd, "run")) {
        static struct config cfg; /* the I/O thread reads it to the end */
        int status = cli_run_options(argc - 1, argv + 1, &cfg);

        return status >= 0 ? status : machine_run(&cfg);
    }
    if (!strcmp(cmd, "hvt")) {
        static struct config cfg;

        status_tender = true;
        int status = cli_hvt_options(argc - 1, argv + 1, &cfg);

        return status >= 0 ? status_own(status) : machine_run(&cfg);
    }
    if (!strcmp(cmd, "check")) {
        if (argc == 3 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h")))
            return cli_say(cli_help);
        if (argc > 2) {
            msg_error("check takes no arguments, but got '%s'", argv[2]);
            return STATUS_FAILURE;
        }
        return check_main();
    }
    if (!strcmp(cmd, "--help") || !strcmp(cmd, "-h") || !strcmp(cmd, "help")) {
        return cli_say(cli_help);
    }
    if (!strcmp(cmd, "--version")) {
        return cli_say(cli_version);
    }
    return usage(cmd);
}
