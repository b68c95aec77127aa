/* What packets do (monitor/gdb_command.c, gdb_query.c, gdb_regs.c, debugger.c) to CPUs that stand
 * still, and that no packet does more: with a CPU that has no thread behind it. */
#include <criterion/criterion.h>
#include "monitor/core.h"
#include "monitor/gdb.h"
#include "monitor/gdb_regs.h"
#include "tests/vmfix.h"
#include "vcpu/kvm/kvm.h"

static struct machine m;
static struct gdb g;
static struct vmfix f;
static unsigned stops;

void machine_stop(struct machine *mm, int status, const char *what)
{
    (void)mm, (void)status, (void)what;
    stops++;
}

static void begin(void)
{
    vmf_create(&f, VMFIX_LONG);
    m.cpus = f.vm;
    f.v->vm = &m.cpus;
    debugger_init(&m, -1, true);
    debug_clear(&m.cpus);
    g = (struct gdb){
        .m = &m, .client = -1, .cpu_cont = ALL_CPUS, .layout.avx = true, .state = GDB_STOPPED};
}

static void end(void)
{
    f.v->vm = &f.vm;
    vmf_destroy(&f);
}

/* The reply to a packet, or "(none)". */
static const char *ask_bytes(const char *s, size_t n)
{
    static char reply[GDB_PACKET_MAX + 1];

    memcpy(g.in.data, s, n);
    g.in.data[n] = 0;
    g.in.len = n;
    if (!gdb_command(&g))
        return "(none)";
    cr_assert_leq(g.out.len, GDB_PACKET_MAX);
    memcpy(reply, g.out.data, g.out.len);
    reply[g.out.len] = 0;
    return reply;
}
static const char *ask(const char *s)
{
    return ask_bytes(s, strlen(s));
}
#define REPLY(packet, reply) cr_expect_str_eq(ask(packet), reply, "%s: %s", packet, ask(packet))

Test(gdb, memory, .init = begin, .fini = end)
{
    REPLY("M40000,4:01020304", "OK");
    REPLY("m40000,6", "010203040000");
    REPLY("m40000,0", "");
    cr_expect_eq(vmf_peek(&f, 0x40000, 4), 0x04030201);
    cr_expect_str_eq(ask_bytes("X40001,2:\0#", 11), "OK");
    REPLY("m40000,4", "01002304");
    REPLY("M40000,4:010203", "E01");
    REPLY("M40000,4:0102030405", "E01");
    REPLY("X40000,4:abc", "E01");
    REPLY("M40000,ffffffffffffffff:00", "E01");
    REPLY("m40000", "E01");
    REPLY("m40000,1,1", "E01");
    REPLY("m8000000000000000,1", "E14"); /* not canonical */
    REPLY("m40000000,1", "E14");         /* mapped, but no RAM there or not mapped at all */
    REPLY("m3ffffe,8", "0000");          /* up to the end of RAM */
    REPLY("M3ffffe,4:01020304", "E14");
    cr_expect_eq(strlen(ask("m0,ffffffff")), 2 * GDB_MEMORY_MAX);
}

Test(gdb, registers, .init = begin, .fini = end)
{
    f.v->cpu.gpr[RBX] = 0x1122334455667788;
    f.v->cpu.gpr[RSP] = 0x20000;
    REPLY("p1", "8877665544332211");
    REPLY("p7", "0000020000000000");
    REPLY("P1=0100000000000000", "OK");
    cr_expect_eq(f.v->cpu.gpr[RBX], 1);
    REPLY("P10=0000000000000080", "E01"); /* RIP, not canonical */
    REPLY("P10=0010000000000000", "OK");
    cr_expect_eq(f.v->cpu.rip, 0x1000);
    REPLY("P11=ffffffff", "OK"); /* EFLAGS: what is reserved stays as it is */
    cr_expect_eq(f.v->cpu.rflags & ~(uint64_t)FL_DEFINED, 0);
    cr_expect_eq(f.v->cpu.rflags & (FL_VM | FL_R1), FL_R1);
    REPLY("P12=33000000", "E01"); /* CS */
    REPLY("p12", "08000000");
    REPLY("pff", "E01");
    REPLY("P1=01", "E01");
    REPLY("P1=010000000000000000", "E01");
    /* The whole, read and written back, is no change; shorter or longer is taken as far as it goes.
     */
    struct cpu before = f.v->cpu;
    char all[GDB_PACKET_MAX];

    snprintf(all, sizeof all, "G%s", ask("g"));
    REPLY(all, "OK");
    cr_expect_eq(f.v->cpu.rip, before.rip);
    cr_expect(!memcmp(f.v->cpu.gpr, before.gpr, sizeof before.gpr));
    REPLY("G01", "E01");
}

Test(gdb, registers_of_32_bits, .init = begin, .fini = end)
{
    size_t len;

    g.layout = (struct gdb_layout){.i386 = true};
    f.v->cpu.gpr[RSP] = 0x1122334455667788;
    REPLY("p4", "88776655");
    REPLY("P4=01000000", "OK");
    cr_expect_eq(f.v->cpu.gpr[RSP], 1);
    REPLY("P8=00100000", "OK");
    cr_expect_eq(f.v->cpu.rip, 0x1000);
    cr_expect(strstr(gdb_description(g.layout, &len), "<architecture>i386</architecture>"));
    cr_expect(!strstr(gdb_description(g.layout, &len), "ymm0h"));
}

/* Vector state that is in its initial configuration reads so, and what is written can be loaded. */
Test(gdb, vector_registers, .init = begin, .fini = end)
{
    uint8_t *x = f.v->cpu.xsave;
    size_t unused;
    const char *xml = gdb_description(g.layout, &unused);
    unsigned n = 0, mxcsr = 0, xmm0 = 0, fctrl = 0, ftag = 0, ymm0h = 0;

    for (const char *p = xml; (p = strstr(p, "<reg name=\"")); n++) {
        p += 11;
        mxcsr = strncmp(p, "mxcsr\"", 6) ? mxcsr : n;
        xmm0 = strncmp(p, "xmm0\"", 5) ? xmm0 : n;
        fctrl = strncmp(p, "fctrl\"", 6) ? fctrl : n;
        ftag = strncmp(p, "ftag\"", 5) ? ftag : n;
        ymm0h = strncmp(p, "ymm0h\"", 6) ? ymm0h : n;
    }
    cr_assert_eq(n, gdb_regs(g.layout), "the description has %u", n);
    cr_assert_eq(gdb_reg_size(g.layout, n), 0);
    memset(x, 0xaa, XSAVE_AREA_SIZE);
    memset(x + 512, 0, 8); /* XSTATE_BV */
    uint8_t val[GDB_REG_SIZE], ones[GDB_REG_SIZE];

    memset(ones, 0xff, sizeof ones);
    gdb_reg_read(f.v, g.layout, mxcsr, val);
    cr_expect(!memcmp(val, &(uint32_t){0x1f80}, 4));
    gdb_reg_read(f.v, g.layout, fctrl, val);
    cr_expect(!memcmp(val, &(uint32_t){0x37f}, 4));
    gdb_reg_read(f.v, g.layout, ftag, val);
    cr_expect(!memcmp(val, &(uint32_t){0xffff}, 4));
    gdb_reg_read(f.v, g.layout, xmm0, val);
    cr_expect(!memcmp(val, (uint8_t[16]){0}, 16));
    cr_expect(gdb_reg_write(f.v, g.layout, mxcsr, ones));
    cr_expect(!memcmp(x + 24, &(uint32_t){0xffff}, 4));
    cr_expect(gdb_reg_write(f.v, g.layout, ymm0h, ones));
    gdb_reg_read(f.v, g.layout, ymm0h, val);
    cr_expect(!memcmp(val, ones, 16));
    cr_expect_eq(x[512] & 7, 7);
}

Test(gdb, breakpoints, .init = begin, .fini = end)
{
    struct debug *d = m.cpus.debug;

    REPLY("Z0,1000,1", "OK");
    REPLY("Z0,1000,1", "OK");
    REPLY("Z1,1000,1", "OK");
    REPLY("Z2,2000,4", "OK");
    cr_expect_eq(d->ncode, 2);
    cr_expect_eq(d->ndata, 1);
    cr_expect(debug_code(d, 0x1000) && !debug_code(d, 0x1001) && !debug_code(d, 0x1040));
    cr_expect(debug_page(d, 0x2ff8) && !debug_page(d, 0x3000) && !debug_page(d, 0x1fff));
    REPLY("z0,1000,1", "OK");
    REPLY("z1,1000,1", "OK");
    REPLY("z1,1000,1", "OK");
    REPLY("z2,2000,4", "OK");
    cr_expect(!d->ncode && !d->ndata && !debug_code(d, 0x1000));
    REPLY("Z2,2000,0", "E28");
    REPLY("Z2,2000,fffffffff", "E28");
    REPLY("Z2,ffffffffffffffff,4", "E28");
    REPLY("Z9,2000,4", "");
    REPLY("Z0", "E01");
    char packet[32];

    for (unsigned i = 0; i <= DEBUG_CODE_MAX; i++) {
        snprintf(packet, sizeof packet, "Z0,%x,1", 0x10000 + i);
        REPLY(packet, i < DEBUG_CODE_MAX ? "OK" : "E28");
    }
    for (unsigned i = 0; i <= DEBUG_DATA_MAX; i++) {
        snprintf(packet, sizeof packet, "Z4,%x,8", 0x10000 + i * 8);
        REPLY(packet, i < DEBUG_DATA_MAX ? "OK" : "E28");
    }
}

/* Under kvm: what the debug registers have no room for is INT3, in memory while the guest runs. */
Test(gdb, int3_under_kvm, .init = begin, .fini = end)
{
    static struct kvm_vm kvm;

    m.cpus.kvm = &kvm;
    vmf_poke(&f, 0x10000, "\x90\x91\x92\x93\x94\x95", 6);
    REPLY("Z2,2000,4", "OK");
    REPLY("Z2,2001,4", "E28"); /* not aligned */
    REPLY("Z1,3000,1", "OK");
    REPLY("Z1,3001,1", "OK");
    for (char packet[] = "Z0,10000,1"; packet[7] < '6'; packet[7]++)
        REPLY(packet, "OK");
    REPLY("Z0,7000000000,1", "OK"); /* not mapped: not yet there */
    kvm_debug_insert(&m.cpus);
    cr_expect_eq(vmf_peek(&f, 0x10000, 6), 0xcccccccccc90, "%lx", vmf_peek(&f, 0x10000, 6));
    vmf_poke(&f, 0x10002, "\x55", 1); /* the guest's own business */
    kvm_debug_remove(&m.cpus);
    cr_expect_eq(vmf_peek(&f, 0x10000, 6), 0x959493559190, "%lx", vmf_peek(&f, 0x10000, 6));
    REPLY("Z1,3002,1", "OK");
    REPLY("Z1,3003,1", "E28");
    kvm_debug_insert(&m.cpus);
    kvm_debug_remove(&m.cpus);
    cr_expect_eq(vmf_peek(&f, 0x10000, 6), 0x959493559190);
}

Test(gdb, threads_and_going_on, .init = begin, .fini = end)
{
    REPLY("qfThreadInfo", "m1");
    REPLY("qsThreadInfo", "l");
    REPLY("Hg1", "OK");
    REPLY("Hg2", "E01");
    REPLY("Hc-1", "OK");
    REPLY("Hx1", "E01");
    REPLY("T1", "OK");
    REPLY("T3", "E01");
    REPLY("vCont?", "vCont;c;C;s;S;r");
    REPLY("vCont", "E01");
    REPLY("vCont;q", "E01");
    REPLY("vCont;s:7", "E01");
    REPLY("vCont;r10", "E01");
    cr_expect_eq(g.state, GDB_STOPPED);
    REPLY("vCont;r10,20:1;c", "(none)");
    cr_expect_eq(g.state, GDB_RUNNING);
    cr_expect_eq(f.v->debug, DEBUG_STEP);
    cr_expect(f.v->step_from == 0x10 && f.v->step_to == 0x20);
    f.v->debug_stop.why = DEBUG_STEPPED;
    gdb_stop_reply(&g);
    cr_expect_eq(g.state, GDB_STOPPED);
    cr_expect(!memcmp(g.out.data, "T05thread:1;", g.out.len));
    REPLY("Z2,2000,4", "OK");
    f.v->debug_stop = (struct debug_stop){DEBUG_AT_WATCH, DEBUG_WRITE, 0x2000};
    /* Not told yet: before anything runs on. */
    cr_expect_str_eq(ask("vCont;c"), "T05thread:1;watch:2000;");
    REPLY("vCont;c", "(none)");
    cr_expect_eq(f.v->debug, DEBUG_DATA);
    g.interrupted = true;
    gdb_stop_reply(&g);
    cr_expect(!memcmp(g.out.data, "T02thread:1;", g.out.len));
}

Test(gdb, queries, .init = begin, .fini = end)
{
    cr_expect(strstr(ask("qSupported:swbreak+;hwbreak+"), "PacketSize=4000"));
    cr_expect(g.swbreak && g.hwbreak);
    REPLY("qXfer:features:read:nothing.xml:0,100", "E01");
    REPLY("qXfer:features:read:target.xml:fffffff,100", "E01");
    cr_expect(!strncmp(ask("qXfer:features:read:target.xml:0,10"), "m<?xml", 6));
    REPLY("qRcmd,zz", "E01");
    REPLY("qRcmd,6", "E01");
    cr_expect_neq(*ask("qRcmd,68656c70"), 'E');
    REPLY("qNothing", "");
    REPLY("", "");
    REPLY("k", "(none)");
    cr_expect_eq(stops, 1);
}

/* Any packet at all: nothing is touched that is not guest memory, the CPU stays one that can run.
 */
Test(gdb, any_packet, .init = begin, .fini = end)
{
    static const char *const word[] = {"m",
                                       "M",
                                       "X",
                                       "p",
                                       "P",
                                       "G",
                                       "g",
                                       "Z0,",
                                       "Z1,",
                                       "Z2,",
                                       "Z3,",
                                       "Z4,",
                                       "z0,",
                                       "z2,",
                                       "vCont",
                                       ";c",
                                       ";s:",
                                       ";r",
                                       "Hg",
                                       "Hc",
                                       "T",
                                       "qRcmd,",
                                       "qXfer:features:read:target.xml:",
                                       "?",
                                       "40000",
                                       ",",
                                       ":",
                                       "ffffffffffffffff",
                                       "0",
                                       "1",
                                       "4",
                                       "10",
                                       "=",
                                       "-1",
                                       "00000000",
                                       "deadbeef",
                                       "qThreadExtraInfo,",
                                       "7472616e736c61746520",
                                       "qSupported:",
                                       "c",
                                       "s",
                                       "C05;",
                                       "D",
                                       "12345678901234567",
                                       "vKill",
                                       "-",
                                       "p1.1",
                                       "\377",
                                       "ffffffffffff"};
    char packet[512];

    srand(2);
    for (unsigned i = 0; i < 300000; i++) {
        size_t n = 0;

        for (int k = rand() % 8; k >= 0; k--) {
            const char *w = word[(unsigned)rand() % (sizeof word / sizeof word[0])];

            if (n + strlen(w) < sizeof packet) {
                memcpy(packet + n, w, strlen(w));
                n += strlen(w);
            }
        }
        ask_bytes(packet, n);
        g.state = GDB_STOPPED;
        cr_assert_lt(g.cpu, 1);
        cr_assert(canonical(f.v->cpu.rip));
        cr_assert_eq(f.v->cpu.rflags & (FL_VM | FL_R1), FL_R1);
        cr_assert_eq(f.v->cpu.xsave[26] | f.v->cpu.xsave[27], 0, "MXCSR");
        cr_assert_leq(m.cpus.debug->ncode, DEBUG_CODE_MAX);
    }
}
