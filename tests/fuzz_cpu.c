/*
 * fuzz_cpu: the command. Variables: MODE=32 (32-bit code), SEED (default 1), CASES, SEQS and PROGS
 * (how many of each; TIME=seconds instead: until then, by turns), ONLY=s123, q123 or p123 (one
 * case, and say what came of it), KICKS=microseconds (kick bt that often), UNCOVERED=1 (list forms
 * without a run). Prints "N passed, N failed" and how many forms were covered.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "tests/fuzz.h"

#define MAX_SHOWN 40

unsigned fz_mode = 8;
static unsigned nforms;
static uint64_t seed = 1, passed, failed, native_runs, faults;
static uint8_t *covered;      /* by form: ran to a comparison */
static uint16_t *failures;    /* by form; [nforms]: sequences */
static struct fz_case fzcase; /* large */
static struct fz_result nat, itp, btr;

static void on_alarm(int sig)
{
    (void)sig;
    printf("no end to case %c%lu of SEED=%lu\nnot ok fuzz_cpu: hangs\n",
           fzcase.sequence ? 'q' : 's', fzcase.index, fzcase.seed);
    fflush(stdout);
    _exit(1);
}

/* The program's own code faulting: say in which case before the signal ends us. */
static void on_crash(int sig, uint64_t pc)
{
    Dl_info i;

    if (!dladdr((void *)(uintptr_t)pc, &i))
        return; /* generated code: the engines' business */
    printf("signal %d in %s at %#lx\nnot ok fuzz_cpu: crashes\n", sig, i.dli_sname, pc);
    fz_print_case(&fzcase);
    fflush(stdout);
}

static bool differ(const struct fz_result *a, enum fz_who wa, const struct fz_result *b,
                   enum fz_who wb, unsigned debug)
{
    unsigned slot = fzcase.sequence ? nforms : fzcase.form;
    static unsigned shown;

    if (fz_same(&fzcase, a, wa, b, wb, debug))
        return false;
    /* Of each form the first is shown. */
    if (failures[slot]++ < (fzcase.sequence ? 10 : 1) && shown++ < MAX_SHOWN)
        fz_report(&fzcase, a, wa, b, wb, debug);
    return true;
}

static void run_case(unsigned debug)
{
    bool bad, have_native;

    if (!fzcase.n)
        return;
    fz_interp_run(&fzcase, &itp);
    have_native = fz_native_run(&fzcase, &itp, &nat);
    native_runs += have_native;
    faults += itp.vector >= 0;
    /* What lies before the data pages is absent but for bt with windows. */
    if (itp.vector == VEC_PF && itp.cr2 - FZ_WIN < FZ_DATA - FZ_WIN)
        debug &= ~FZ_WINDOWS;
    fz_bt_run(&fzcase, debug, &btr);
    bad = have_native && differ(&nat, FZ_NATIVE, &itp, FZ_INTERP, 0);
    bad |= have_native && differ(&nat, FZ_NATIVE, &btr, FZ_BT, debug);
    if (!have_native || fzcase.sequence)
        bad |= differ(&itp, FZ_INTERP, &btr, FZ_BT, debug);
    if (!fz_effects(&fzcase, &itp)) { /* last: it uses the memory that itp points to */
        failures[fzcase.form]++;
        bad = true;
    }
    failed += bad;
    passed += !bad;
    if (!fzcase.sequence && have_native && itp.vector == FZ_END)
        covered[fzcase.form] = 1;
}

static void single(uint64_t index)
{
    static const unsigned modes[8] = {0,
                                      FZ_WINDOWS,
                                      BT_DBG_NO_LIVENESS,
                                      BT_DBG_MOVE_LOW,
                                      BT_DBG_NO_INLINE,
                                      0,
                                      FZ_WINDOWS,
                                      BT_DBG_ONE_INSN | BT_DBG_NO_CHAIN};

    fz_single(&fzcase, seed, index, nforms);
    run_case(modes[index / nforms % 8]);
}

/* The case at hand in each of the modes. */
static void run_modes(const unsigned *modes, unsigned nmodes)
{
    bool bad, have_native;

    fz_interp_run(&fzcase, &itp);
    if (itp.vector == FZ_LOST) /* a return address overwritten: round and round */
        return;
    have_native = fz_native_run(&fzcase, &itp, &nat);
    native_runs += have_native;
    faults += itp.vector >= 0;
    bad = have_native && differ(&nat, FZ_NATIVE, &itp, FZ_INTERP, 0);
    for (unsigned m = 0; m < nmodes; m++) {
        if ((modes[m] & FZ_WINDOWS) && itp.vector == VEC_PF && itp.cr2 - FZ_WIN < FZ_DATA - FZ_WIN)
            continue;
        fz_bt_run(&fzcase, modes[m], &btr);
        bad |= differ(&itp, FZ_INTERP, &btr, FZ_BT, modes[m]);
    }
    failed += bad;
    passed += !bad;
}

static void sequence(uint64_t index)
{
    static const unsigned modes[] = {0,
                                     FZ_WINDOWS,
                                     BT_DBG_NO_CHAIN | BT_DBG_NO_LOW,
                                     BT_DBG_NO_LIVENESS,
                                     BT_DBG_NO_INLINE,
                                     BT_DBG_NO_TRACE | BT_DBG_NO_LOW,
                                     BT_DBG_MOVE_LOW,
                                     BT_DBG_ONE_INSN,
                                     BT_DBG_ONE_INSN | BT_DBG_NO_LIVENESS};

    fz_sequence(&fzcase, seed, index, nforms);
    if (fzcase.n)
        run_modes(modes, sizeof(modes) / sizeof(*modes));
}

static void program(uint64_t index)
{
    static const unsigned modes[] = {0,
                                     FZ_WINDOWS,
                                     BT_DBG_NO_CHAIN | FZ_WINDOWS | BT_DBG_NO_LOW,
                                     BT_DBG_NO_LIVENESS,
                                     BT_DBG_MOVE_LOW,
                                     BT_DBG_MOVE_LOW | BT_DBG_NO_CHAIN | BT_DBG_NO_LOW,
                                     BT_DBG_NO_TRACE | BT_DBG_NO_LOW,
                                     BT_DBG_NO_TRACE | FZ_WINDOWS};

    fz_program(&fzcase, seed, index);
    run_modes(modes, sizeof(modes) / sizeof(*modes));
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t env(const char *name, uint64_t dflt)
{
    const char *s = getenv(name);

    return s && *s ? strtoull(s, NULL, 0) : dflt;
}

static int only(const char *what)
{
    uint64_t index = strtoull(what + 1, NULL, 0);

    if (what[0] == 'p')
        program(index);
    else if (what[0] == 'q')
        sequence(index);
    else
        single(index);
    fz_print_case(&fzcase);
    printf("    interp vector %d rip %#lx; %s\n", itp.vector, itp.st.rip,
           failed ? "differs" : "the same everywhere");
    return failed != 0;
}

static int init(void)
{
    const char *what = "";
    int err = fz_engine_init(&what);

    if (!err)
        err = fz_native_init(&what); /* last: it must know all memory of ours */
    if (err) {
        printf("skipped: %s: %s\n", what, strerror(-err));
        return err;
    }
    fz_state_init(seed);
    nforms = fz_forms_init();
    covered = calloc(nforms, 1);
    failures = calloc(nforms + 1, sizeof(*failures));
    fz_effects_init(nforms);
    signal(SIGALRM, on_alarm);
    fz_crash = on_crash;
    return covered && failures ? 0 : -1;
}

static void tally(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < nforms; i++)
        n += covered[i];
    for (unsigned i = 0; i < nforms; i++)
        if (failures[i])
            printf("differs: %s (map %u opcode %02x, %u times)\n", fz_form(i)->info->name,
                   fz_form(i)->map, fz_form(i)->opcode, failures[i]);
    if (failures[nforms])
        printf("differs: %u sequences\n", failures[nforms]);
    if (getenv("UNCOVERED"))
        for (unsigned i = 0; i < nforms; i++)
            if (!covered[i])
                printf("not covered: %s (map %u opcode %02x opsize %u)\n", fz_form(i)->info->name,
                       fz_form(i)->map, fz_form(i)->opcode, fz_form(i)->opsize);
    printf("%u of %u instruction forms covered, %lu cases ran natively, %lu ended in a fault\n", n,
           nforms, native_runs, faults);
}

int main(void)
{
    uint64_t seconds = env("TIME", 0), cases, seqs, progs, i = 0, q = 0, p = 0;
    double start, t;

    setvbuf(stdout, NULL, _IOLBF, 0);
    seed = env("SEED", 1);
    fz_mode = env("MODE", 64) == 32 ? 4 : 8;
    if (init())
        return 1;
    if (env("KICKS", 0) && fz_kicks((unsigned)env("KICKS", 0)))
        return 1;
    if (getenv("ONLY"))
        return only(getenv("ONLY"));
    cases = env("CASES", seconds ? ~(uint64_t)0 : 20 * (uint64_t)nforms);
    seqs = env("SEQS", seconds ? ~(uint64_t)0 : 50000);
    progs = env("PROGS", seconds ? ~(uint64_t)0 : 20000);
    start = now();
    while (i < cases || q < seqs || p < progs) {
        alarm(30);
        for (unsigned k = 0; k < 4096 && i < cases; k++)
            single(i++);
        for (unsigned k = 0; k < 512 && q < seqs; k++)
            sequence(q++);
        for (unsigned k = 0; k < 512 && p < progs; k++)
            program(p++);
        if (seconds && now() - start > (double)seconds)
            break;
    }
    t = now() - start;
    tally();
    failed += !fz_effects_tally(nforms, i >= 150 * (uint64_t)nforms);
    fz_engine_tally();
    printf("SEED=%lu: %lu single, %lu sequences, %lu programs, %.0f cases/s\n", seed, i, q, p,
           (double)(i + q + p) / t);
    printf("%lu passed, %lu failed\n", passed, failed);
    return failed != 0;
}
