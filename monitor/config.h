/* What the user asked for, after checking: filled by cli.c, read by everyone in monitor/. */
#ifndef MONITOR_CONFIG_H
#define MONITOR_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

enum engine_choice { ENGINE_AUTO, ENGINE_KVM, ENGINE_BT, ENGINE_INTERP };
enum boot_choice { BOOT_AUTO, BOOT_LINUX, BOOT_PVH, BOOT_MULTIBOOT, BOOT_ELF, BOOT_HVT };

/* Exit statuses (README has the same table). */
enum {
    STATUS_OK = 0,
    STATUS_HALTED = 123, /* every CPU halted with interrupts off */
    STATUS_TIMEOUT = 124,
    STATUS_FAILURE = 125,   /* mayfly's own failure, or wrong usage */
    STATUS_BAD_IMAGE = 126, /* cannot load it */
    STATUS_NO_IMAGE = 127,  /* no such file */
    STATUS_CRASH = 134,     /* the guest crashed */
    STATUS_SIGNAL = 128     /* + N: stopped by signal N */
};

/* `mayfly hvt`: statuses of our own are 1, as Solo5's tender has it. Set once, by main(). */
extern bool status_tender;
static inline int status_own(int status)
{
    return status_tender && status ? 1 : status;
}

/* The virtio devices there are (devices.c has their table). */
enum device_kind {
    DEVICE_DISK,
    DEVICE_NET,
    DEVICE_VSOCK,
    DEVICE_SHARE,
    DEVICE_CONSOLE,
    DEVICE_RNG,
    DEVICE_BALLOON,
    DEVICE_KINDS
};
#define CONFIG_DEVICES 64

struct config {
    uint64_t memory; /* bytes */
    unsigned cpus;
    enum engine_choice engine;
    enum boot_choice boot;
    const char *guest;     /* path; NULL: the embedded hello guest */
    const char *cmdline;   /* ARGs joined by one space, "" when none */
    char *const *argv;     /* GUEST and its ARGs as they were given, NULL at the end */
    char *const *env;      /* --env: what a program finds in its environment */
    const char *cwd;       /* --cwd, or NULL */
    const char *initrd;    /* path or NULL */
    const char *module[7]; /* what more --initrd named: multiboot modules */
    unsigned nmodule;
    uint64_t timeout_ns;    /* 0: none */
    bool stats;             /* table on stderr */
    const char *stats_file; /* JSON, or NULL */
    const char *dumpcore;   /* directory for a Solo5 unikernel's core, or NULL */
    bool seccomp;
    bool testdev;    /* QEMU's pc-testdev */
    const char *gdb; /* --gdb's value, or NULL */
    int verbose;
    struct config_device {
        enum device_kind kind;
        const char *arg; /* the option's value, or NULL */
    } device[CONFIG_DEVICES];
    unsigned ndevice;
    uint64_t bt_cache; /* --bt-cache in bytes, 0: the default */
    unsigned bt_debug; /* --bt-... debug options, BT_DBG_* of vcpu/bt/bt.h */
};

/* One line on stderr, "mayfly: ..." with a newline added; the only place that prints errors. */
void msg_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same at -v only. */
void msg_verbose(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
