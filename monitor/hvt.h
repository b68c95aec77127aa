/*
 * The machine of a Solo5 unikernel (guests/hvt/abi.h): not a PC. Memory without a hole, one CPU
 * that sees no interrupts, the hypercall ports and nothing else on the bus, disks and networks by
 * the names that the image's manifest gives them.
 *
 *   boot_hvt.c   the image: notes, manifest, segments, the CPU's first state
 *   hvt.c        what the machine is made of, its bus
 *   hvt_calls.c  the hypercalls
 *   hvt_net.c    frames
 *   hvt_attach.c --disk NAME=..., --net NAME=...
 *   hvt_core.c   --dumpcore
 *   cli_hvt.c    `mayfly hvt`: the spelling of Solo5's own tender
 *
 * A hypercall is done where it is made, on the vCPU's thread: the guest waits for its end whatever
 * we do, there is never a second one under way, and handing it to the I/O thread would cost two
 * wake-ups. For that the thread's filter has pread, pwrite and ppoll besides (SECCOMP_VCPU_HVT).
 */
#ifndef MONITOR_HVT_H
#define MONITOR_HVT_H

#include "guests/hvt/abi.h"
#include "monitor/core.h"

/* The manifest as it will be in guest memory, with all the room there can be. */
struct hvt_mft {
    uint32_t version, entries;
    struct hvt_device device[HVT_MFT_ENTRIES];
};
#define HVT_MFT_SIZE(entries) (8u + (entries) * sizeof(struct hvt_device))

struct hvt {
    struct hvt_mft mft;
    struct hvt_host {
        int fd; /* of a network: negative once its other end has gone */
        bool read_only;
        struct hvt_stream *stream; /* hvt_net.c, or NULL: fd keeps frames apart */
    } host[HVT_MFT_ENTRIES];       /* by handle; only of attached devices */
    unsigned nets;                 /* attached ones */
    uint8_t net[HVT_MFT_ENTRIES];
    atomic_bool waiting;          /* in HVT_POLL: a kick has to write wake_fd */
    void (*kick)(struct vcpu *v); /* the engine's own */
    int wake_fd;                  /* readable once the machine has stopped */
    int dump_fd;                  /* the directory of --dumpcore, or -1 */
    bool dump;                    /* a core is to be written */
    uint64_t trap;                /* gpa of the guest's struct hvt_trap, or 0 */
    uint64_t calls[HVT_CALLS], bytes_in, bytes_out;
};

/* --- boot_hvt.c --- */
/* Is it a Solo5 image, for this target or another (but virtio, which is a multiboot kernel)? */
bool hvt_probe(const struct boot_image *k);
/* Its notes, checked; mft is its manifest. 0 or -ENOEXEC with res->error. */
int hvt_read_notes(const struct boot_image *k, struct hvt_mft *mft, struct boot_result *res);
/* For text of hostile origin in messages: what is not plain becomes '?'. */
const char *hvt_name(const char *name, char buf[HVT_NAME_SIZE]);

/* --- hvt.c --- */
/* If the guest is a Solo5 image, make m its machine, before there is memory. 0, or the exit status
 * with one line said. */
int hvt_begin(struct machine *m, const struct boot_image *k);
/* Bytes of memory for the guest. */
uint64_t hvt_memory(const struct config *cfg);
/* May the engine chosen run it? May choose another. 0, or the exit status with one line said. */
int hvt_engine(struct machine *m);
/* With a debugger: a kick reaches a guest that waits in HVT_POLL. After the engine has its own. */
void hvt_take_kicks(struct machine *m);
/* The machine has stopped: a guest that waits in HVT_POLL is woken. Any thread. */
void hvt_wake(struct machine *m);
/* The guest did what no unikernel does: one line, and the machine stops. */
void hvt_violation(struct machine *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void hvt_statistics(const struct machine *m, stats_sink *put, void *to);
extern const struct machine_ops hvt_bus_ops;

/* --- hvt_attach.c --- */
/* The devices of the configuration, and whether all of the manifest are there. 0, or the exit
 * status with one line said. */
int hvt_attach(struct machine *m);

/* --- hvt_calls.c --- */
/* Hypercall nr (1 to HVT_CALLS - 1) with its block at gpa. */
void hvt_call(struct machine *m, unsigned nr, gpa_t gpa);

/* --- hvt_net.c --- */
/* fd: a connected stream socket to passt, owned from here on. 0 or -errno. */
int hvt_stream_open(struct hvt_host *h, int fd, bool restricted);
/* Is a frame here already; poll() says there is something: is it a whole frame? */
bool hvt_net_pending(const struct hvt_host *h);
bool hvt_net_ready(struct hvt_host *h);
/* A frame, cut to len; 0 or -1: none. */
ssize_t hvt_net_read(struct hvt_host *h, void *p, size_t len);
/* Send it, or lose it, as on a cable. */
void hvt_net_write(struct machine *m, struct hvt_host *h, const void *p, size_t len);

/* --- hvt_core.c --- */
/* Open the directory. 0, or the exit status with one line said. */
int hvt_core_open(struct machine *m);
/* Write the core: the I/O thread, once the vCPU has left run(). Says where, or what went wrong. */
void hvt_core_write(struct machine *m);

#endif
