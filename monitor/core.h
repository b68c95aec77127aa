/*
 * What the monitor's own files share: launch, event loop, console, statistics. Devices and loaders
 * need none of it (monitor/machine.h is theirs).
 *
 * Threads of a run: vCPU 0 is the main thread, so that the guest starts without waiting for another
 * thread to be scheduled; the I/O thread is the second one, made when there is something for it to
 * watch; further vCPUs come after it. Signals are taken by the I/O thread alone.
 */
#ifndef MONITOR_CORE_H
#define MONITOR_CORE_H

#include <signal.h>
#include <stdatomic.h>
#include "monitor/machine.h"
#include "seccomp/seccomp.h"
#include "virtio/console.h"

#define MAX_VCPUS 16

/* --- msg.c --- */
extern int msg_verbosity; /* -v count, set once by cli.c */
/* All of buf to fd, whatever it takes; errors are dropped. */
void msg_write_all(int fd, const char *buf, size_t len);
/* A growing text in a fixed buffer; what does not fit is cut. */
struct text {
    char *buf;
    size_t len, cap;
};
void text_add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- cli.c --- */
/* "128M" and the like: K, M, G, T (KiB...), a plain number is MiB. 0, -EINVAL, -ERANGE. */
int cli_parse_size(const char *s, uint64_t *bytes);
/* "2", "0.5": decimal seconds. 0, -EINVAL, -ERANGE for none, -EOVERFLOW beyond 10^9. */
int cli_parse_seconds(const char *s, uint64_t *ns);
/* The options of `mayfly run` (argv[0] is "run"). -1: go on with cfg; else the exit status, all
 * said. */
int cli_run_options(int argc, char **argv, struct config *cfg);
extern const char cli_help[], cli_version[];
/* Print it on stdout; the status, STATUS_FAILURE with a line when it cannot be. */
int cli_say(const char *text);

/* --- cli_hvt.c --- */
/* The same for `mayfly hvt`, in the spelling of Solo5's tender. */
int cli_hvt_options(int argc, char **argv, struct config *cfg);

/* --- choose.c --- */
/* The engine for a choice; why: one clause on how auto decided. */
const struct engine *choose_engine(enum engine_choice choice, char *why, size_t len);

/* --- check.c --- */
int check_main(void);

/* --- image.c --- */
/* Map a file for a loader. what: "image" or "initrd". 0, or the exit status with one line said. */
int image_open(const char *path, const char *what, struct boot_image *img);
/* The guest the user named, or the embedded hello. Same results. */
int image_open_guest(const struct config *cfg, struct boot_image *img);
/* The runtime inside the binary, or that with a network; data stays NULL where there is none. */
void image_runtime(struct boot_image *img, bool network);

/* --- tsc.c --- */
/* First reading, as early as can be: the later one is compared with it when nothing better says
 * the frequency. */
void tsc_start(void);
/* Hz of the host's TSC; *how says where it is from. May wait until 64 us after tsc_start(). */
uint64_t tsc_frequency(const char **how);
uint64_t clock_ns(void); /* CLOCK_MONOTONIC */

/* --- crash.c --- */
/* The block of text for status 134: what happened, registers, code bytes. */
void crash_report(const struct vcpu *v, const char *what, int err);

/* --- stats.c --- */
/* Open the JSON file without harming what is in it: a descriptor or -errno. *created: it was not
 * there before. */
int stats_open(const char *path, bool *created);
/* The table, on stderr. */
void stats_print(const struct machine *m);
/* 0 or -errno. */
int stats_write_json(const struct machine *m, int fd);

/* --- console.c --- */
struct console {
    pthread_mutex_t lock; /* output; taken inside machine.lock, never around it */
    struct machine *m;
    bool poll_out;        /* stdout may block: ask before writing */
    bool with_errors;     /* stdout and stderr are one file */
    bool dead;            /* stdout failed: what comes is dropped */
    atomic_bool out_wait; /* the I/O thread waits for POLLOUT */
    bool flush_armed;     /* it will flush when its timer fires */
    uint32_t early;       /* writes that did not wait because there is no I/O thread */
    int fail_status;      /* dead: the exit status that says so */
    int error;            /* of a program's output, which it has not been told of yet */
    bool through;         /* a program's output is not kept */
    uint32_t out_start, out_len;
    uint64_t last_flush; /* ns */
    /* stdin; under machine.lock, but for the I/O thread's looks at what is atomic */
    bool tty, escape;
    bool flowing;         /* the guest's receiver has been on for long enough */
    atomic_bool settling; /* it went on at on_since */
    atomic_bool eof, wanted;
    int in_error;      /* eof: an errno instead of it */
    uint64_t on_since; /* ns */
    /* hvc.c; all but hvc_reads is the I/O thread's */
    struct virtio_dev *hvc; /* the virtio console, or NULL */
    bool hvc_stalled;       /* its output waits for room */
    atomic_bool hvc_reads;  /* its driver takes input: the serial port gets none */
    uint32_t rx_head;
    _Atomic uint32_t rx_count;
    uint8_t rx[4096];
    char out[65536];
};
void console_init(struct machine *m, struct console *c);
/* Raw mode when stdin is our terminal. */
void console_raw(struct console *c);
/* A program changes its terminal, by TCSETS or its like: 0 or -errno. How it was is kept. */
int console_set(const struct machine *m, int fd, unsigned long call, const void *data);
/* Put the terminal back. Async-signal-safe, any thread, any number of times. */
void console_restore(void);
bool console_is_raw(void);
/* A program in the background is stopped because it changes the terminal, or was a moment ago. */
bool console_is_stopped(void);
enum flush { FLUSH_TRY, FLUSH_WAIT, FLUSH_LAST };
/* Write what is buffered. TRY: only what does not block. WAIT: until the buffer is empty or the
 * machine stops. LAST: until it is empty. */
void console_flush(struct machine *m, enum flush how);
/* I/O thread: is stdin to be polled; take what it has; give the serial port what fits; the receiver
 * went on a while ago; when that will be (ns, 0: never). All but the first and the last with
 * machine.lock held. */
bool console_wants_input(struct console *c);
void console_input(struct console *c);
void console_pump(struct console *c);
void console_settle(struct console *c);
uint64_t console_settles_at(struct console *c);
/* Is there output that waits for room in stdout? */
bool console_output_waits(struct console *c);
/* For a program: 0 or the -errno of a write, this one or one before; through: of this one. */
int console_write_program(struct machine *m, const void *buf, size_t len, bool through);
/* It now writes to stderr: if that is the same file as stdout, what was written before comes
 * before. */
void console_before_errors(struct machine *m);
/* Its output is all out, or it is said why not. At the end. */
void console_settle_error(struct console *c);
/* console_write() that does not wait: the bytes taken, also 0. */
size_t console_write_some(struct machine *m, const void *buf, size_t len);

/* --- hvc.c: the virtio console on the same stdin and stdout --- */
/* dev is the run's console device. Before the guest runs. */
void hvc_connect(struct machine *m, struct virtio_dev *dev);
/* I/O thread: stdout may have room; the terminal has another size. Nothing without a device. */
void hvc_room(struct console *c);
void hvc_resized(struct console *c);

/* --- devices.c --- */
/* Make the devices of the configuration, in their order, and put them on the bus. 0, or the exit
 * status with one line said. After the engine's VM exists. */
int devices_create(struct machine *m);
/* I/O thread: let them use io. 0 or -errno, said. */
int devices_attach(struct machine *m, struct io *io);
/* For the runtime's boot block. */
void devices_describe(const struct machine *m, struct boot_request *req);
/* How many network cards have an address (ip=); *first: the first card is one of them. */
unsigned devices_addressed(const struct machine *m, bool *first);
/* cmdline with the devices announced in it, for a guest that does not look into ACPI: before the
 * arguments of its init or application ("-- ..."), else at the end. NULL: no memory. */
const char *devices_cmdline(const struct machine *m, const char *cmdline);
/* For boot_request.mounts. */
const char *const *devices_mounts(const struct machine *m);

/* One number of a section; one whose name has STATS_PER_MILLE in it is a ratio, in thousandths. */
typedef void stats_sink(void *to, const char *section, const char *name, uint64_t value);
#define STATS_PER_MILLE "_per_"
void devices_statistics(const struct machine *m, stats_sink *put, void *to);

/* --- loop.c --- */
/* Timers and flags, before anything that may call in here. */
void loop_init(struct machine *m);
/* Start the I/O thread, or have it started when it is first wanted: then the caller is the only
 * thread, and vCPU 0's. 0, -errno. */
int loop_start(struct machine *m);
/* There is no I/O thread yet. */
bool loop_alone(const struct machine *m);
/* vCPU thread: it has left the guest; did a signal come for which there must be an I/O thread? */
void loop_attend(struct machine *m);
/* vCPU thread: it may now be long in a system call, and signals must be heard all the same. */
void loop_need(const struct machine *m);
/* The same if a write of len to fd may wait for a reader. A signal just before it would be noted,
 * and the write begin all the same. */
void loop_before_write(int fd, size_t len);
/* In a signal's handler: it has been noted; see that somebody looks. False: nobody will any more.
 */
bool loop_signalled(void);
/* Make the loop look at everything again. Any thread. */
void loop_wake(struct machine *m);
/* vCPU index goes to sleep with its own timeout: its timer need not wake the loop too; or it is
 * awake again. */
void loop_timer_idle(struct machine *m, unsigned index, bool idle);
/* I/O thread: take machine.lock, unless somebody keeps it for 10 ms: false, and the loop will look
 * again. (A device that writes to a stdout without a reader holds it for long.) */
bool loop_lock(struct machine *m);
/* Flush the console about a millisecond from now. */
void loop_flush_soon(struct machine *m);
/* The machine has stopped and the caller cannot end the process (its filter is too narrow for the
 * terminal and the statistics): let the I/O thread do it. Does not return. */
_Noreturn void loop_finish(struct machine *m);
/* Until the process ends, with a system call that every filter allows. */
_Noreturn void wait_forever(void);
/* End the process now: I/O thread. */
_Noreturn void loop_end_now(int status);

/* --- signals.c --- */
/* Handlers for SIGINT and friends that end the process at once with 128+N: for the launch. */
void signals_early(void);
/* From here on they are the I/O thread's. */
void signals_begin(const struct machine *m);
/* Block those in the caller and the threads it starts. */
void signals_block(void);
/* Hear them in the caller, which has no I/O thread beside it; whoever started mayfly may have had
 * them blocked. */
void signals_unblock(void);
/* Take them out of the mask of the I/O thread. */
void signals_open(sigset_t *mask);
/* I/O thread: do what those that came mean. When to call again, in ns, 0: when one comes. */
uint64_t signals_take(struct machine *m);
/* MAYFLY_CALL_SIGNALS: those that came for the program, bit N-1. Lock held. */
int64_t signals_asked(struct machine *m);
/* vCPU thread: is this the status of a program that died of one of them? */
bool signals_ended(int status);

/* --- machine.c --- */
/* The run is over and somebody is at machine_last_words(). */
extern atomic_bool machine_finishing;
/* Terminal, statistics. Returns the exit status. Whoever set machine_finishing, once. */
int machine_last_words(struct machine *m);
/* The filter of a vCPU thread beside an I/O thread. */
enum seccomp_kind machine_vcpu_filter(const struct machine *m);
extern _Thread_local struct vcpu *this_vcpu; /* NULL on the I/O thread */

#endif
