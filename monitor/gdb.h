/*
 * --gdb: a debugger by GDB's remote serial protocol. gdb_packet.h has the packets, gdb_regs.h the
 * registers, debugger.h the CPUs; gdb.c the connection and its thread, gdb_command.c and
 * gdb_query.c what a packet asks for.
 */
#ifndef MONITOR_GDB_H
#define MONITOR_GDB_H

#include "monitor/debugger.h"
#include "monitor/gdb_packet.h"
#include "monitor/gdb_regs.h"

struct gdb {
    struct machine *m;
    int listen_fd, event_fd, client; /* client: -1 without one */
    char path[108];                  /* the Unix socket to remove, or "" */
    enum gdb_state {
        GDB_WAITING, /* for the first client: the CPUs stand */
        GDB_FREE,    /* no client, the guest runs */
        GDB_PAUSING, /* a client came: no packet is read until all CPUs stand */
        GDB_STOPPED, /* all CPUs stand, packets are answered */
        GDB_RUNNING, /* the client waits for a stop reply */
        GDB_LEAVING  /* the client has gone: free once all CPUs stand */
    } state;
    bool no_ack, swbreak, hwbreak;
    struct gdb_layout layout;
    bool interrupted;       /* the client asked for a stop */
    unsigned cpu, cpu_cont; /* Hg, Hc; cpu_cont == ALL_CPUS: every one */
    struct gdb_in in;
    struct gdb_out out;
    _Atomic bool attached;
    _Atomic bool serving, ending; /* gdb_end() */
    _Atomic uint32_t ended;
    int end_status;
};
#define ALL_CPUS UINT32_MAX

/* --- gdb.c --- */
/* PORT or unix:PATH, with ",nowait" and ",i386" after it: listen there, before the guest is loaded.
 * 0, or the exit status with one line said. */
int gdb_open(struct machine *m, const char *arg);
/* The thread that serves it; the vCPUs will stand at their gates. 0 or -errno. */
int gdb_start(struct machine *m);
/* The machine has stopped with status: tell the client, remove the socket. Any thread, waits for a
 * moment at most. Nothing without --gdb. */
void gdb_end(struct machine *m, int status);

/* On v's thread, which cannot go on: let the client look at it first, and return when it has.
 * True: the machine has stopped meanwhile. */
bool gdb_sees_crash(struct machine *m, struct vcpu *v);

/* --- gdb_command.c --- */
/* The packet in g->in; state is GDB_STOPPED. True: g->out is the reply. */
bool gdb_command(struct gdb *g);
/* All CPUs stand, and the client waits to hear it: the stop reply in g->out, state GDB_STOPPED. */
void gdb_stop_reply(struct gdb *g);
/* Forget breakpoints and the like and let the guest run. */
void gdb_let_go(struct gdb *g);

/* For gdb_query.c too. Replies; a thread's number (0 is any one, -1 all of them: ALL_CPUS). */
enum { GDB_E_ARGUMENT = 1, GDB_E_FAULT = 0x14, GDB_E_NOSPACE = 0x28 };
#define GDB_MEMORY_MAX (GDB_PACKET_MAX / 2 - 8) /* bytes of memory or text in one reply */
void gdb_error(struct gdb *g, unsigned code);
void gdb_ok(struct gdb *g);
bool gdb_thread_id(const struct gdb *g, const char **s, unsigned *n);
static inline struct vcpu *gdb_cpu(const struct gdb *g, unsigned n)
{
    return g->m->cpus.vcpu[n];
}

/* --- gdb_query.c --- */
/* A packet that begins with q; s is what follows. */
void gdb_query(struct gdb *g, const char *s);

#endif
