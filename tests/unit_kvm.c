/* The kvm engine: its guests, kicks, and changes of engine at any point. The interpreter runs the
 * same guests: same output. */
#include "tests/kvm_machine.h"

#define STEPS_TEXT "20000"
#define STEPS      20000u

/* What cpl3.S computes. */
static uint64_t checksum(uint64_t steps)
{
    uint64_t s = 1;

    while (steps--) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        s = s << 13 | s >> 51;
    }
    return s;
}

static struct machine_ *run_guest(const struct engine *e, const char *name, const char *cmdline)
{
    struct machine_ *m = make();

    load_guest(m, name, cmdline);
    start(m, e);
    expect_stop(m, run(m, false));
    cr_assert_eq(m->status, 0, "%s: status %d, output '%s'", name, m->status, m->out);
    return m;
}

Test(kvm, hello)
{
    NEED_KVM();
    struct machine_ *k = run_guest(&engine_kvm, "hello", "hello");
    struct machine_ *i = run_guest(&engine_interp, "hello", "hello");

    cr_assert_str_eq(k->out, "hello from CPL 0\n");
    cr_assert_str_eq(i->out, k->out);
    cr_assert_eq(k->v->stats.kvm_exits[KVM_EXIT_IO], k->len + 1);
    destroy(k);
    destroy(i);
}

Test(kvm, cpl3)
{
    char want[128];

    NEED_KVM();
    struct machine_ *k = run_guest(&engine_kvm, "cpl3", "cpl3 " STEPS_TEXT);
    struct machine_ *i = run_guest(&engine_interp, "cpl3", "cpl3 " STEPS_TEXT);

    snprintf(want, sizeof want, "cpl3: " STEPS_TEXT " steps, checksum %016llx\n",
             (unsigned long long)checksum(STEPS));
    cr_assert_str_eq(k->out, want);
    cr_assert_str_eq(i->out, want);
    destroy(k);
    destroy(i);
}

Test(kvm, cpl3_at_full_length)
{
    char want[128];

    NEED_KVM();
    struct machine_ *k = run_guest(&engine_kvm, "cpl3", "cpl3");

    snprintf(want, sizeof want, "cpl3: 100000000 steps, checksum %016llx\n",
             (unsigned long long)checksum(100000000));
    cr_assert_str_eq(k->out, want);
    destroy(k);
}

Test(kvm, exit_cost)
{
    unsigned cycles = 0, n = 0;

    NEED_KVM();
    struct machine_ *k = run_guest(&engine_kvm, "exits", "exits 50");

    cr_assert_eq(sscanf(k->out, "exit cost: %u TSC cycles, mean of %u OUTs", &cycles, &n), 2);
    cr_assert_eq(n, 50);
    cr_assert_gt(cycles, 0);
    cr_assert_geq(k->v->stats.kvm_exits[KVM_EXIT_IO], 51);
    destroy(k);
}

/* --- kicks and changes of engine --- */

/* Guests that are too small for a file, in 32-bit flat code without addresses of their own. */
__asm__(".section .rodata\n"
        ".code32\n"
        "spin_begin: jmp spin_begin\n"
        "spin_end:\n"
        "crash_begin: ud2\n"
        "crash_end:\n"
        "halt_begin: cli; hlt; jmp halt_begin\n"
        "halt_end:\n"
        /* REP OUTSB of 600 bytes at 0x40000. */
        "outs_begin: mov $0x40000, %esi; mov $600, %ecx; mov $0x3f8, %edx; cld; rep outsb\n"
        " mov $0xf4, %edx; xor %eax, %eax; out %al, %dx\n"
        "1: jmp 1b\n"
        "outs_end:\n"
        ".code64\n"
        ".text\n");
extern const uint8_t spin_begin[], spin_end[], crash_begin[], crash_end[], halt_begin[], halt_end[],
    outs_begin[], outs_end[];

Test(kvm_kick, ends_an_endless_loop, .timeout = 20)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct kicker k;

    load_code(m, spin_begin, spin_end);
    start(m, &engine_kvm);
    kick_later(&k, m->v, 1, 2000);
    cr_assert_eq(run(m, true), EXIT_KICKED);
    pthread_join(k.thread, NULL);
    cr_assert_eq(m->v->cpu.rip, CODE);
    cr_assert_eq(m->v->cpu.gpr[RSP], CODE);
    cr_assert_eq(m->v->cpu.gpr[RAX], 0x2badb002);
    destroy(m);
}

/* A kick before run() is not lost, and one is one. */
Test(kvm_kick, before_the_run, .timeout = 20)
{
    NEED_KVM();
    struct machine_ *m = make();

    load_code(m, spin_begin, spin_end);
    start(m, &engine_kvm);
    for (unsigned i = 0; i < 100; i++) {
        vcpu_kick(m->v);
        cr_assert_eq(run(m, true), EXIT_KICKED);
    }
    m->cpus.stop = true;
    vcpu_kick(m->v);
    cr_assert_eq(run(m, true), EXIT_STOP);
    destroy(m);
}

/* At every point of the way in and out: none may be lost, or the test hangs at the last. */
Test(kvm_kick, many, .timeout = 60)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct kicker k;

    load_code(m, spin_begin, spin_end);
    start(m, &engine_kvm);
    kick_later(&k, m->v, 2000, 0);
    while (run(m, true) == EXIT_KICKED && m->v->stats.kicks < 100)
        ;
    pthread_join(k.thread, NULL);
    while (m->v->kicked)
        run(m, true);
    kick_later(&k, m->v, 1, 1000);
    cr_assert_eq(run(m, true), EXIT_KICKED);
    pthread_join(k.thread, NULL);
    destroy(m);
}

Test(kvm_kick, a_halted_cpu, .timeout = 20)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct kicker k;

    load_code(m, halt_begin, halt_end);
    start(m, &engine_kvm);
    kick_later(&k, m->v, 1, 20000);
    cr_assert_eq(run(m, true), EXIT_KICKED);
    pthread_join(k.thread, NULL);
    cr_assert(m->v->cpu.halted);
    cr_assert_eq(m->v->cpu.rip, CODE + 2);
    destroy(m);
}

/* The other engine goes on where KVM was kicked: in the middle of an OUT. */
Test(kvm_change, at_every_byte_of_hello)
{
    NEED_KVM();
    for (unsigned at = 1; at <= 17; at++) {
        struct machine_ *m = make();

        load_guest(m, "hello", "hello");
        m->kick_at = at;
        start(m, &engine_kvm);
        cr_assert_eq(run(m, true), EXIT_KICKED);
        cr_assert_eq(m->len, at);
        finish(m);
        start(m, &engine_interp);
        expect_stop(m, run(m, false));
        cr_assert_eq(m->status, 0);
        cr_assert_str_eq(m->out, "hello from CPL 0\n");
        destroy(m);
    }
}

/* To the interpreter and back to a new VM, again and again, at CPL 3 and at CPL 0. */
Test(kvm_change, to_and_fro)
{
    char want[128];
    unsigned changes = 0;

    NEED_KVM();
    struct machine_ *m = make();

    load_guest(m, "cpl3", "cpl3 3000000");
    for (bool end = false; !end; changes++) {
        struct kicker k;

        start(m, &engine_kvm);
        kick_later(&k, m->v, changes < 4, 500);
        end = run(m, true) == EXIT_STOP;
        if (end)
            m->cpus.stop = true;
        pthread_join(k.thread, NULL);
        vcpu_take_kick(m->v);
        finish(m);
        if (end)
            break;
        start(m, &engine_interp);
        for (unsigned i = 0; i < 3000 && !m->cpus.stop; i++)
            if (interp_step(m->v) == STEP_EXIT)
                expect_stop(m, m->v->exit.reason);
        fpu_put(m->v);
        finish(m);
        end = m->cpus.stop;
    }
    snprintf(want, sizeof want, "cpl3: 3000000 steps, checksum %016llx\n",
             (unsigned long long)checksum(3000000));
    cr_assert_str_eq(m->out, want, "after %u changes: '%s'", changes, m->out);
    cr_assert_eq(m->status, 0);
    destroy(m);
}

/* A string instruction that is kicked goes on with the rest. */
Test(kvm_change, rep_outs)
{
    NEED_KVM();
    for (unsigned at = 1; at < 600; at += 97) {
        struct machine_ *m = make();
        char text[601];

        for (unsigned i = 0; i < 600; i++)
            text[i] = (char)('a' + i % 23);
        text[600] = 0;
        ram_write(&m->ram, 0x40000, text, 600);
        load_code(m, outs_begin, outs_end);
        m->kick_at = at;
        start(m, &engine_kvm);
        enum exit_reason r = run(m, true);

        if (r == EXIT_KICKED) {
            finish(m);
            start(m, &engine_interp);
            r = run(m, false);
        }
        expect_stop(m, r);
        cr_assert_str_eq(m->out, text);
        destroy(m);
    }
}

Test(kvm, triple_fault)
{
    NEED_KVM();
    struct machine_ *m = make();

    m->v->cpu.idtr = (struct dtr){.base = 0, .limit = 0};
    load_code(m, crash_begin, crash_end);
    start(m, &engine_kvm);
    cr_assert_eq(run(m, false), EXIT_SHUTDOWN);
    cr_assert_eq(m->v->exit.reason, EXIT_SHUTDOWN);
    destroy(m);
}
