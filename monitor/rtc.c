/*
 * The MC146818 clock and its CMOS memory. The time is the host's UTC plus what the guest set it
 * ahead; the memory sizes that a PC's firmware leaves in CMOS are computed when read. There are no
 * alarm and periodic interrupts.
 */
#include <time.h>
#include "monitor/legacy.h"

#define REG_A_RATE  0x26 /* 32768 Hz, 1024 Hz */
#define REG_A_UIP   0x80
#define REG_B_SET   0x80
#define REG_B_BIN   0x04
#define REG_B_24H   0x02
#define REG_C_UF    0x10
#define REG_D_VALID 0x80
#define CENTURY     0x32   /* FADT says so */
#define UIP_NS      244000 /* before the second's change (MC146818 "update cycle") */

static int64_t clock_utc(long *nsec)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    if (nsec)
        *nsec = ts.tv_nsec;
    return ts.tv_sec;
}

static bool is_time(uint8_t reg)
{
    return reg == 0 || reg == 2 || reg == 4 || (reg >= 6 && reg <= 9) || reg == CENTURY;
}

/* Registers A and B are kept as the difference from what firmware leaves in them, so that a zeroed
 * struct rtc is a clock that runs: 24 hours, BCD. */
static uint8_t reg_a(const struct rtc *r)
{
    return r->ram[0xa] ^ REG_A_RATE;
}

static uint8_t reg_b(const struct rtc *r)
{
    return r->ram[0xb] ^ REG_B_24H;
}

/* A time register's form in the format that register B chooses. */
static uint8_t to_reg(const struct rtc *r, unsigned v)
{
    return (uint8_t)(reg_b(r) & REG_B_BIN ? v : (v / 10 % 10) << 4 | v % 10);
}

static int from_reg(const struct rtc *r, uint8_t v)
{
    return reg_b(r) & REG_B_BIN ? v : (v >> 4) * 10 + (v & 15);
}

/* Bring the time registers up to date. */
static void load(struct rtc *r)
{
    time_t t = clock_utc(NULL) + r->offset;
    struct tm tm;

    if (!gmtime_r(&t, &tm))
        return;
    unsigned hour = (unsigned)tm.tm_hour, year = (unsigned)tm.tm_year + 1900;

    r->ram[0] = to_reg(r, (unsigned)tm.tm_sec);
    r->ram[2] = to_reg(r, (unsigned)tm.tm_min);
    if (reg_b(r) & REG_B_24H)
        r->ram[4] = to_reg(r, hour);
    else
        r->ram[4] = to_reg(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0);
    r->ram[6] = to_reg(r, (unsigned)tm.tm_wday + 1);
    r->ram[7] = to_reg(r, (unsigned)tm.tm_mday);
    r->ram[8] = to_reg(r, (unsigned)tm.tm_mon + 1);
    r->ram[9] = to_reg(r, year % 100);
    r->ram[CENTURY] = to_reg(r, year / 100);
}

/* The registers are what the guest says the time is. timegm() takes any numbers. */
static void store(struct rtc *r)
{
    int hour = from_reg(r, r->ram[4] & 0x7f);

    if (!(reg_b(r) & REG_B_24H))
        hour = hour % 12 + (r->ram[4] & 0x80 ? 12 : 0);
    struct tm tm = {
        .tm_sec = from_reg(r, r->ram[0]),
        .tm_min = from_reg(r, r->ram[2]),
        .tm_hour = hour,
        .tm_mday = from_reg(r, r->ram[7]),
        .tm_mon = from_reg(r, r->ram[8]) - 1,
        .tm_year = from_reg(r, r->ram[CENTURY]) * 100 + from_reg(r, r->ram[9]) - 1900,
    };

    r->offset = timegm(&tm) - clock_utc(NULL);
}

static bool held(const struct rtc *r)
{
    return reg_b(r) & REG_B_SET;
}

/* Sizes of memory where firmware writes them: 640 KiB; KiB above 1 MiB up to 63 MiB; 64 KiB units
 * above 16 MiB up to 4 GiB, and above 4 GiB. */
static bool memory_size(const struct machine *m, uint8_t reg, uint8_t *val)
{
    uint64_t above_1m = m->ram.low > MIB ? (m->ram.low - MIB) >> 10 : 0;
    uint64_t above_16m = m->ram.low > 16 * MIB ? (m->ram.low - 16 * MIB) >> 16 : 0;
    uint64_t above_4g = m->ram.high >> 16;

    if (above_1m > 63 * 1024)
        above_1m = 63 * 1024;
    if (above_16m > 0xffff)
        above_16m = 0xffff;
    if (above_4g > 0xffffff)
        above_4g = 0xffffff;
    switch (reg) {
    case 0x15:
    case 0x16:
        *val = (uint8_t)(640 >> (reg - 0x15) * 8);
        return true;
    case 0x17:
    case 0x18:
        *val = (uint8_t)(above_1m >> (reg - 0x17) * 8);
        return true;
    case 0x30:
    case 0x31:
        *val = (uint8_t)(above_1m >> (reg - 0x30) * 8);
        return true;
    case 0x34:
    case 0x35:
        *val = (uint8_t)(above_16m >> (reg - 0x34) * 8);
        return true;
    case 0x5b:
    case 0x5c:
    case 0x5d:
        *val = (uint8_t)(above_4g >> (reg - 0x5b) * 8);
        return true;
    default:
        return false;
    }
}

static uint8_t reg_c(struct rtc *r)
{
    int64_t now = clock_utc(NULL);
    uint8_t val = r->seen && r->seen != now ? REG_C_UF : 0;

    r->seen = now;
    return val;
}

static uint8_t reg_read(struct machine *m, uint8_t reg)
{
    struct rtc *r = &m->rtc;
    uint8_t val;
    long nsec;

    if (is_time(reg)) {
        if (!held(r))
            load(r);
        return r->ram[reg];
    }
    switch (reg) {
    case 0xa:
        clock_utc(&nsec);
        return (uint8_t)((reg_a(r) & 0x7f) |
                         (!held(r) && nsec >= 1000000000 - UIP_NS ? REG_A_UIP : 0));
    case 0xb:
        return reg_b(r);
    case 0xc:
        return reg_c(r);
    case 0xd:
        return REG_D_VALID;
    }
    return memory_size(m, reg, &val) ? val : r->ram[reg];
}

static void reg_write(struct rtc *r, uint8_t reg, uint8_t val)
{
    if (is_time(reg)) {
        if (!held(r))
            load(r);
        r->ram[reg] = val;
        if (!held(r))
            store(r);
        return;
    }
    if (reg == 0xb) {
        bool was = held(r);

        if (!was && (val & REG_B_SET))
            load(r);
        r->ram[0xb] = val ^ REG_B_24H;
        if (was && !(val & REG_B_SET))
            store(r);
        return;
    }
    if (reg == 0xa)
        val ^= REG_A_RATE;
    if (reg != 0xc && reg != 0xd)
        r->ram[reg] = val;
}

uint64_t rtc_read(struct machine *m, uint16_t port, unsigned size)
{
    (void)size;
    if (!(port & 1)) /* the index cannot be read */
        return 0xff;
    return reg_read(m, m->rtc.index);
}

void rtc_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)size;
    if (port & 1)
        reg_write(&m->rtc, m->rtc.index, (uint8_t)val);
    else
        m->rtc.index = val & 0x7f; /* bit 7 is the NMI mask */
}
