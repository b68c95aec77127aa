/* The command line's parsers, and the pieces of the monitor's core that need no guest. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "monitor/core.h"

static const struct {
    const char *text;
    int err;
    uint64_t bytes;
} sizes[] = {
    {"512K", 0, 512ull << 10},
    {"128M", 0, 128ull << 20},
    {"128m", 0, 128ull << 20},
    {"128", 0, 128ull << 20},
    {"3G", 0, 3ull << 30},
    {"1T", 0, 1ull << 40},
    {"64MiB", 0, 64ull << 20},
    {"64MB", 0, 64ull << 20},
    {"0", 0, 0},
    {"", -EINVAL, 0},
    {"M", -EINVAL, 0},
    {"-1", -EINVAL, 0},
    {"+1", -EINVAL, 0},
    {" 1", -EINVAL, 0},
    {"1.5G", -EINVAL, 0},
    {"0x10", -EINVAL, 0},
    {"1Q", -EINVAL, 0},
    {"1Mx", -EINVAL, 0},
    {"1 M", -EINVAL, 0},
    {"8388607T", 0, 8388607ull << 40},
    {"8388608T", -ERANGE, 0},
    {"99999999T", -ERANGE, 0},
    {"18446744073709551616", -ERANGE, 0},
    {"99999999999999999999999999", -ERANGE, 0},
    {"8796093022208M", -ERANGE, 0},
};

Test(cli, sizes)
{
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t n = 0;
        int err = cli_parse_size(sizes[i].text, &n);

        cr_expect_eq(err, sizes[i].err, "'%s': %d", sizes[i].text, err);
        if (!err)
            cr_expect_eq(n, sizes[i].bytes, "'%s': %llu", sizes[i].text, (unsigned long long)n);
    }
}

static const struct {
    const char *text;
    int err;
    uint64_t ns;
} seconds[] = {
    {"1", 0, 1000000000},
    {"0.5", 0, 500000000},
    {".25", 0, 250000000},
    {"2.", 0, 2000000000},
    {"10s", 0, 10000000000},
    {"0.000000001", 0, 1},
    {"0.0000000015", 0, 1},
    {"1000000000", 0, 1000000000000000000},
    {"0", -ERANGE, 0},
    {"0.0", -ERANGE, 0},
    {"0.0000000001", -ERANGE, 0},
    {"1000000001", -EOVERFLOW, 0},
    {"99999999999999999999", -EOVERFLOW, 0},
    {"", -EINVAL, 0},
    {".", -EINVAL, 0},
    {"s", -EINVAL, 0},
    {"-1", -EINVAL, 0},
    {"1e3", -EINVAL, 0},
    {"inf", -EINVAL, 0},
    {"nan", -EINVAL, 0},
    {"1,5", -EINVAL, 0},
};

Test(cli, seconds)
{
    for (unsigned i = 0; i < sizeof seconds / sizeof seconds[0]; i++) {
        uint64_t n = 0;
        int err = cli_parse_seconds(seconds[i].text, &n);

        cr_expect_eq(err, seconds[i].err, "'%s': %d", seconds[i].text, err);
        if (!err)
            cr_expect_eq(n, seconds[i].ns, "'%s': %llu", seconds[i].text, (unsigned long long)n);
    }
}

static int parse(struct config *cfg, const char *const *args)
{
    static char *argv[64];
    int argc = 1;

    argv[0] = (char *)"run";
    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)args[argc - 1];
    argv[argc] = NULL;
    return cli_run_options(argc, argv, cfg);
}
#define PARSE(cfg, ...) parse(cfg, (const char *const[]){__VA_ARGS__, NULL})

Test(cli, defaults_and_arguments)
{
    struct config c;

    cr_assert_eq(PARSE(&c, "guest"), -1);
    cr_expect_eq(c.memory, 128 * MIB);
    cr_expect_eq(c.cpus, 1);
    cr_expect_eq(c.engine, ENGINE_AUTO);
    cr_expect_eq(c.boot, BOOT_AUTO);
    cr_expect(c.seccomp);
    cr_expect_eq(c.timeout_ns, 0);
    cr_expect_str_eq(c.guest, "guest");
    cr_expect_str_eq(c.cmdline, "");
}

Test(cli, options_end_at_the_guest)
{
    struct config c;

    cr_assert_eq(PARSE(&c, "-m", "1G", "--engine=interp", "vmlinux", "--stats", "-m", "x y"), -1);
    cr_expect_eq(c.memory, GIB);
    cr_expect_eq(c.engine, ENGINE_INTERP);
    cr_expect_not(c.stats);
    cr_expect_str_eq(c.guest, "vmlinux");
    cr_expect_str_eq(c.cmdline, "--stats -m x y");
}

Test(cli, every_option)
{
    struct config c;

    cr_assert_eq(PARSE(&c, "-c1", "--boot", "pvh", "--initrd", "i", "--initrd", "j",
                       "--timeout=0.5", "--stats", "--stats=f", "--seccomp", "off", "-vv",
                       "--bt-no-chain", "--", "-g"),
                 -1);
    cr_expect_eq(c.boot, BOOT_PVH);
    cr_expect_str_eq(c.initrd, "i");
    cr_expect_eq(c.nmodule, 1);
    cr_expect_str_eq(c.module[0], "j");
    cr_expect_eq(c.timeout_ns, 500000000);
    cr_expect(c.stats);
    cr_expect_str_eq(c.stats_file, "f");
    cr_expect_not(c.seccomp);
    cr_expect_eq(c.verbose, 2);
    cr_expect_eq(c.bt_debug, 1);
    cr_expect_str_eq(c.guest, "-g");
}

Test(msg, a_line_stays_one_line, .init = cr_redirect_stderr)
{
    char big[3000];

    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    msg_error("a\nb\x1b[2J%s", big);

    char got[4096] = "";
    size_t n = fread(got, 1, sizeof got - 1, cr_get_redirected_stderr());

    cr_expect_eq(strncmp(got, "mayfly: a?b?[2Jxxx", 18), 0);
    cr_expect_eq(strchr(got, '\n'), got + n - 1, "one line feed, at the end");
    cr_expect_lt(n, 1100);
}

Test(msg, text_is_cut_not_overrun)
{
    char buf[9];
    struct text t = {buf, 0, 8};

    buf[8] = 'E';
    text_add(&t, "%s", "12345");
    text_add(&t, "%s", "67890");
    text_add(&t, "%s", "more");
    cr_expect_str_eq(buf, "1234567");
    cr_expect_eq(t.len, 7);
    cr_expect_eq(buf[8], 'E');
}

Test(tsc, frequency_agrees_with_the_clock)
{
    const char *how = NULL;

    tsc_start();
    uint64_t hz = tsc_frequency(&how), t0 = __builtin_ia32_rdtsc(), n0 = clock_ns();

    usleep(50000);
    double got = (double)(__builtin_ia32_rdtsc() - t0) * 1e9 / (double)(clock_ns() - n0);

    cr_expect_not_null(how);
    cr_expect_float_eq(got / (double)hz, 1.0, 0.01, "%s: %f", how, got);
}

Test(stats, file_is_opened_without_harm)
{
    char path[] = "/tmp/mayfly-unit-XXXXXX";
    int fd = mkstemp(path);
    bool created = true;
    struct stat st;

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, "old", 3), 3);
    close(fd);
    fd = stats_open(path, &created);
    cr_assert_geq(fd, 0);
    cr_expect_not(created);
    cr_expect_eq(fstat(fd, &st), 0);
    cr_expect_eq(st.st_size, 3);
    close(fd);
    unlink(path);
    fd = stats_open(path, &created);
    cr_expect_geq(fd, 0);
    cr_expect(created);
    close(fd);
    unlink(path);
    cr_expect_eq(stats_open("/nonexistent/x", &created), -ENOENT);
    cr_expect_eq(stats_open("/tmp", &created), -EISDIR);
}
