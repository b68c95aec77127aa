/*
 * The 8254. Time goes by in two ways: really, and by moving a channel's start back; expected counts
 * come from the clock read before and after, so how long the test takes does not matter.
 */
#include <time.h>
#include "tests/machine_fake.h"

static unsigned changed;
static void note_changed(struct vm_cpus *m)
{
    (void)m;
    changed++;
}
static void setup(void)
{
    fake_machine();
    pit_changed = note_changed;
    changed = 0;
    /* IRQ 0 by the 8259, vector 0x20. */
    pic_write(chip, 0x20, 0x11);
    pic_write(chip, 0x21, 0x20);
    pic_write(chip, 0x21, 4);
    pic_write(chip, 0x21, 3);
}
TestSuite(pit, .init = setup);

static uint64_t now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
static void w(uint16_t port, uint8_t val)
{
    pit_write(chip, port, val);
}
static uint8_t r(uint16_t port)
{
    return pit_read(chip, port);
}
/* Program channel ch: mode, both bytes. */
static void program(unsigned ch, unsigned mode, uint16_t count, bool bcd)
{
    w(0x43, (uint8_t)(ch << 6 | 0x30 | mode << 1 | bcd));
    w((uint16_t)(0x40 + ch), (uint8_t)count);
    w((uint16_t)(0x40 + ch), (uint8_t)(count >> 8));
}
static uint16_t latched(unsigned ch)
{
    w(0x43, (uint8_t)(ch << 6));
    uint8_t lo = r((uint16_t)(0x40 + ch));

    return (uint16_t)(lo | r((uint16_t)(0x40 + ch)) << 8);
}
/* Set channel ch to exactly t ticks after its load, and hold it there by stopping the gate (mode 0,
 * 2, 3, 4): reads are then exact. Channel 0's gate is no port's, but it is the same logic. */
static void freeze(unsigned ch, uint64_t t)
{
    struct pit_channel *c = &chip->pit.ch[ch];

    c->gate = 0;
    c->held_ns = (t * 1000000000u + PIT_HZ - 1) / PIT_HZ;
}
static uint64_t ticks_since(uint64_t start, uint64_t at)
{
    return (uint64_t)((unsigned __int128)(at - start) * PIT_HZ / 1000000000u);
}

Test(pit, counts_at_its_frequency)
{
    w(0x61, 1);
    program(2, 0, 0xffff, false);
    uint64_t start = chip->pit.ch[2].start_ns, a, b;
    uint16_t v;

    do { /* within the first round of 55 ms, however slow we are */
        program(2, 0, 0xffff, false);
        start = chip->pit.ch[2].start_ns;
        a = now();
        v = latched(2);
        b = now();
    } while (b - start > 50000000);
    cr_expect_leq(v, 0xffff - ticks_since(start, a));
    cr_expect_geq(v, 0xffff - ticks_since(start, b));
}

Test(pit, exact_to_the_tick)
{
    program(2, 0, 1000, false);
    for (unsigned t = 0; t < 1000; t += 37) {
        freeze(2, t);
        cr_expect_eq(latched(2), 1000 - t, "tick %u", t);
        chip->pit.ch[2].held_ns--;
        if (t)
            cr_expect_eq(latched(2), 1000 - t + 1, "one ns before tick %u", t);
    }
}

Test(pit, mode0_terminal_count)
{
    program(2, 0, 100, false);
    freeze(2, 99);
    cr_expect_eq(r(0x61) & 0x20, 0);
    cr_expect_eq(latched(2), 1);
    freeze(2, 100);
    cr_expect_eq(r(0x61) & 0x20, 0x20);
    cr_expect_eq(latched(2), 0);
    freeze(2, 103);
    cr_expect_eq(latched(2), 0xfffd, "goes on through zero");
    program(2, 0, 0, false);
    freeze(2, 65535);
    cr_expect_eq(r(0x61) & 0x20, 0);
    freeze(2, 65536);
    cr_expect_eq(r(0x61) & 0x20, 0x20);
}

Test(pit, mode2_and_3)
{
    program(2, 2, 10, false);
    for (unsigned t = 0; t < 25; t++) {
        chip->pit.ch[2].gate = 1;
        freeze(2, t);
        cr_expect_eq(latched(2), 10 - t % 10, "%u", t);
    }
    static const uint16_t even[] = {10, 8, 6, 4, 2, 10, 8, 6, 4, 2, 10};
    static const uint16_t odd[] = {8, 6, 4, 2, 0, 8, 6, 4, 2, 8, 6};
    program(2, 3, 10, false);
    for (unsigned t = 0; t < 11; t++) {
        freeze(2, t);
        cr_expect_eq(latched(2), even[t], "even %u", t);
    }
    program(2, 3, 9, false);
    for (unsigned t = 0; t < 11; t++) {
        freeze(2, t);
        cr_expect_eq(latched(2), odd[t], "odd %u", t);
    }
    program(2, 3, 1, false); /* not a period: no division by zero, no endless edges */
    latched(2);
    program(2, 7, 10, false);
    cr_expect_eq(chip->pit.ch[2].mode, 3, "mode bit 2 is ignored above 5");
}

Test(pit, mode2_new_count_waits_for_the_period)
{
    program(0, 2, 60000, false);
    struct pit_channel *c = &chip->pit.ch[0];

    w(0x40, 100);
    w(0x40, 0);
    w(0x43, 0xe2);
    if (c->count == 60000) { /* unless this test took 50 ms */
        cr_expect_eq(r(0x40) & 0x40, 0x40, "null count");
    } else {
        r(0x40);
    }
    c->start_ns -= 60000ull * 1000000000 / PIT_HZ + 1;
    w(0x43, 0xe2);
    cr_expect_eq(r(0x40) & 0x40, 0, "loaded");
    cr_expect_eq(c->count, 100u);
    cr_expect_leq(latched(0), 100u);
}

Test(pit, gate_triggered_modes)
{
    program(2, 1, 50000, false);
    cr_expect_eq(r(0x61) & 0x20, 0x20, "high until the trigger");
    w(0x43, 0xe8);
    cr_expect_eq(r(0x42), 0x80 | 0x40 | 0x30 | 2, "null count");
    w(0x61, 1);
    struct pit_channel *c = &chip->pit.ch[2];
    cr_expect(c->loaded && !c->null_count);
    c->start_ns = now() + 1000000000000; /* the first tick is yet to come */
    cr_expect_eq(r(0x61) & 0x21, 1, "low while it runs");
    w(0x61, 0);
    cr_expect_eq(r(0x61) & 0x20, 0, "the gate's level does not matter");
    c->start_ns = now() - 1000000000;
    cr_expect_eq(r(0x61) & 0x20, 0x20);
    w(0x61, 1);
    cr_expect_gt(c->start_ns, now() - 1000000000, "triggered again");
    w(0x61, 0);
    program(2, 5, 100, false);
    cr_expect_eq(r(0x61) & 0x20, 0x20);
    cr_expect(!c->loaded);
    w(0x61, 1);
    cr_expect(c->loaded);
}

Test(pit, gate_holds_mode0_and_restarts_mode2)
{
    struct pit_channel *c = &chip->pit.ch[2];

    program(2, 0, 40000, false);
    cr_expect_eq(latched(2), 40000, "gate is low after reset");
    w(0x61, 1);
    w(0x61, 0);
    c->held_ns = 1000000;
    cr_expect_eq(latched(2), 40000 - 1193);
    cr_expect_eq(latched(2), 40000 - 1193);
    uint64_t a = now();
    w(0x61, 1);
    uint64_t b = now();
    cr_expect(c->start_ns >= a - 1000000 && c->start_ns <= b - 1000000, "goes on where it was");
    program(2, 2, 40000, false);
    w(0x61, 0);
    c->held_ns = 40000ull * 1000000000 / PIT_HZ; /* in its last tick, when out is low */
    cr_expect_eq(r(0x61) & 0x20, 0x20, "out is high while held");
    a = now();
    w(0x61, 1);
    cr_expect_geq(c->start_ns, a, "from the start");
}

Test(pit, bcd)
{
    program(2, 0, 0x1234, true);
    freeze(2, 0);
    cr_expect_eq(latched(2), 0x1234);
    freeze(2, 235);
    cr_expect_eq(latched(2), 0x0999);
    freeze(2, 1235);
    cr_expect_eq(latched(2), 0x9999);
    program(2, 2, 0, true);
    freeze(2, 1);
    cr_expect_eq(latched(2), 0x9999);
    program(2, 2, 0xffff, true); /* no BCD at all: any answer, no harm */
    latched(2);
}

Test(pit, access_modes_and_latches)
{
    w(0x43, 0x90); /* channel 2, low byte only */
    w(0x42, 0x50);
    freeze(2, 0);
    cr_expect_eq(chip->pit.ch[2].count, 0x50u);
    cr_expect_eq(r(0x42), 0x50);
    cr_expect_eq(r(0x42), 0x50);
    w(0x43, 0xa0); /* high byte only */
    w(0x42, 0x12);
    freeze(2, 1);
    cr_expect_eq(r(0x42), 0x11);
    w(0x43, 0x80);
    cr_expect_eq(r(0x42), 0x11);
    program(2, 0, 0x1234, false);
    freeze(2, 0);
    cr_expect_eq(r(0x42), 0x34);
    cr_expect_eq(r(0x42), 0x12);
    w(0x43, 0x80);
    freeze(2, 0x1000);
    w(0x43, 0x80); /* a second latch is ignored until the first is read */
    cr_expect_eq(r(0x42), 0x34);
    cr_expect_eq(r(0x42), 0x12);
    cr_expect_eq(r(0x42), 0x34 - 0);
    cr_expect_eq(r(0x42), 0x02);
    w(0x43, 0xb0);
    w(0x42, 0x34);
    cr_expect(!chip->pit.ch[2].loaded, "half a count in mode 0 stops it");
}

Test(pit, read_back)
{
    program(0, 2, 0x2000, false);
    program(2, 3, 0x1000, true);
    freeze(0, 0);
    freeze(2, 0);
    w(0x43, 0xc0 | 2 | 8); /* count and status of 0 and 2 */
    cr_expect_eq(r(0x40), 0x80 | 0x30 | 4, "status comes first");
    cr_expect_eq(r(0x40), 0x00);
    cr_expect_eq(r(0x40), 0x20);
    cr_expect_eq(r(0x42), 0x80 | 0x30 | 6 | 1);
    cr_expect_eq(r(0x42), 0x00);
    cr_expect_eq(r(0x42), 0x10);
    w(0x43, 0xd0 | 2); /* count only */
    cr_expect_eq(r(0x40), 0x00);
    cr_expect_eq(r(0x40), 0x20);
    w(0x43, 0xf0 | 0xe); /* nothing */
    cr_expect_eq(r(0x40), 0x00);
    cr_expect_eq(r(0x43), 0xff);
}

Test(pit, irq0_periodic)
{
    program(0, 2, 11932, false); /* 100 Hz */
    cr_expect_geq(changed, 1u);
    uint64_t start = chip->pit.ch[0].start_ns, next = chip->pit.next_ns;
    cr_expect_eq(next, start + (11932ull * 1000000000 + PIT_HZ - 1) / PIT_HZ);
    cr_expect_eq(pit_poll(chip, next - 1), next);
    cr_expect(!pic_output(chip));
    uint64_t second = pit_poll(chip, next);
    cr_expect(pic_output(chip));
    cr_expect_eq(pic_ack(chip), 0x20);
    cr_expect(!pic_output(chip));
    cr_expect_eq(second, start + (2 * 11932ull * 1000000000 + PIT_HZ - 1) / PIT_HZ);
    /* A second late: one interrupt, the phase stays. */
    uint64_t later = pit_poll(chip, start + 1000000000);
    cr_expect_eq(pic_ack(chip), 0x20);
    cr_expect(!pic_output(chip));
    cr_expect_eq(later, start + (100 * 11932ull * 1000000000 + PIT_HZ - 1) / PIT_HZ);
    changed = 0;
    w(0x43, 0x30);
    cr_expect_eq(changed, 1u);
    cr_expect_eq(pit_poll(chip, later + 1000), 0u, "a control word stops it");
    cr_expect(!pic_output(chip));
}

Test(pit, irq0_of_a_hostile_period)
{
    program(0, 2, 2, false);
    uint64_t at = chip->pit.next_ns, next = pit_poll(chip, at);

    cr_expect_eq(pic_ack(chip), 0x20);
    cr_expect_geq(next, at + 20000);
    cr_expect_leq(next, at + 25000);
}

Test(pit, irq0_one_shot)
{
    program(0, 0, 1000, false);
    uint64_t next = chip->pit.next_ns;
    cr_expect_eq(pit_poll(chip, next), 0u);
    cr_expect_eq(pic_ack(chip), 0x20);
    cr_expect_eq(pit_poll(chip, next + 1000000000), 0u);
    cr_expect(!pic_output(chip));
    /* As Linux's pit_next_event(): the count alone again. */
    w(0x40, 0xe8);
    w(0x40, 0x03);
    cr_expect_neq(chip->pit.next_ns, 0u);
    program(0, 4, 1000, false);
    cr_expect_eq(pit_poll(chip, chip->pit.next_ns), 0u);
    cr_expect_eq(pic_ack(chip), 0x20);
}

Test(pit, refresh_toggles)
{
    uint8_t first = r(0x61) & 0x10;

    while ((r(0x61) & 0x10) == first) /* hangs if it does not */
        ;
    w(0x61, 0xff);
    cr_expect_eq(r(0x61) & 0x0f, 0x0f);
    w(0x61, 0);
}
