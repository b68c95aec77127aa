/*
 * An image that something else than mayfly has booted (pvh.S). The boot block is made of the
 * loader's start info and of what the processor tells; what the monitor does is done by a PC's
 * devices: COM1, the CMOS clock, the reset of the keyboard controller.
 */
#include "guests/runtime/standalone.h"

#define COM1       0x3f8u
#define DEBUG_EXIT 0xf4u /* QEMU's isa-debug-exit; a bare guest's exit in mayfly */
#define LARGE      (2ull << 20)
#define DEVICES    sizeof(boot.virtio_gsi)
#define PIT_HZ     1193182u
#define PIT_TICKS  11932u /* 10 ms */

struct start_info { /* xen/include/public/arch-x86/hvm/start_info.h */
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist, cmdline, rsdp, memmap;
    uint32_t memmap_entries, reserved;
};
struct memmap {
    uint64_t addr, size;
    uint32_t type, reserved;
};

extern const char program_start[], program_end[], image_name[]; /* runtime.ld */
static char words[4096];
static uint32_t device[DEVICES]; /* from boot.virtio_base on */

static inline void out8(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static void cpuid(uint32_t leaf, uint32_t r[4])
{
    __asm__("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(0));
}

/* --- the boot block --- */

/* Channel 2 of the PIT, whose output can be read in port 0x61, counts 10 ms. 0: it does not. */
static uint64_t measured_hz(void)
{
    uint64_t start;

    out8(0x61, (in8(0x61) & 0xfcu) | 1);
    out8(0x43, 0xb0); /* channel 2, both bytes, mode 0 */
    out8(0x42, PIT_TICKS & 255);
    out8(0x42, PIT_TICKS >> 8);
    start = tsc();
    for (unsigned i = 0; i < 1000000; i++)
        if (in8(0x61) & 0x20)
            return i ? (tsc() - start) * PIT_HZ / PIT_TICKS : 0;
    return 0;
}

static uint64_t tsc_hz(void)
{
    uint32_t r[4], most, hz;

    cpuid(0, r);
    most = r[0];
    if (most >= 0x15) { /* SDM 2A, CPUID: ratio and crystal */
        cpuid(0x15, r);
        if (r[0] && r[1] && r[2])
            return (uint64_t)r[2] * r[1] / r[0];
    }
    cpuid(1, r);
    if (r[2] >> 31) { /* a hypervisor's timing leaf, kHz */
        cpuid(0x40000000, r);
        if (r[0] >= 0x40000010 && r[0] < 0x40001000) {
            cpuid(0x40000010, r);
            if (r[0])
                return (uint64_t)r[0] * 1000;
        }
    }
    hz = (uint32_t)least(measured_hz(), UINT32_MAX);
    return hz ? hz : NS;
}

static void make_seed(void)
{
    uint32_t r[4];

    cpuid(1, r);
    for (unsigned i = 0; i < sizeof boot.seed; i += 8) {
        uint64_t v = tsc() * 0x9e3779b97f4a7c15u;
        bool ok = false;

        if (r[2] & 1u << 30)
            for (unsigned k = 0; k < 10 && !ok; k++)
                __asm__ volatile("rdrand %0" : "=r"(v), "=@ccc"(ok));
        copy(boot.seed + i, &v, 8);
    }
}

static bool begins(const char *s, const char *with)
{
    while (*with && *s == *with)
        s++, with++;
    return !*with;
}

static uint64_t hex(const char *s)
{
    uint64_t v = 0;

    for (s += begins(s, "0x") ? 2 : 0;; s++) {
        char c = *s | 0x20;

        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return v;
    }
}

static unsigned decimal(const char *s)
{
    unsigned v = 0;

    for (; *s >= '0' && *s <= '9' && v < 1000; s++)
        v = v * 10 + (unsigned)(*s - '0');
    return v;
}

/* virtio_mmio.device=SIZE@BASE:IRQ, as mayfly, QEMU's microvm and Firecracker have them: those in
 * the 2 MiB of the first one. */
static bool take_device(const char *word)
{
    static const char start[] = "virtio_mmio.device=";

    if (!begins(word, start))
        return false;
    while (*word && *word != '@')
        word++;
    uint64_t at = hex(word + (*word == '@'));

    while (*word && *word != ':')
        word++;
    if (!boot.virtio_count)
        boot.virtio_base = at & ~(LARGE - 1);
    if (boot.virtio_count < DEVICES && !(at % 4) && at - boot.virtio_base < LARGE - PAGE) {
        boot.virtio_gsi[boot.virtio_count] = (uint8_t)decimal(word + (*word == ':'));
        device[boot.virtio_count++] = (uint32_t)(at - boot.virtio_base);
    }
    return true;
}

uint32_t standalone_device(unsigned i)
{
    return device[i];
}

/* The command line's words are the arguments; before them comes the program's name. */
static void take_arguments(const char *line)
{
    size_t at = least(length(image_name), 255) + 1;

    copy(words, image_name, at - 1);
    boot.argc = 1;
    while (line && *line) {
        size_t n = 0;

        while (line[n] && line[n] != ' ')
            n++;
        if (n && n < sizeof words - at) {
            copy(words + at, line, n);
            words[at + n] = 0;
            if (!take_device(words + at)) {
                at += n + 1;
                boot.argc++;
            }
        }
        line += line[n] ? n + 1 : n;
    }
    boot.args_gpa = boot.path_gpa = kpa(words);
    boot.args_len = at;
}

/* The end of the RAM that the image is in. */
static uint64_t memory(const struct start_info *info)
{
    const struct memmap *m = kva(info->memmap);

    for (uint32_t i = 0; info->version && i < info->memmap_entries; i++)
        if (m[i].type == 1 && m[i].addr <= kpa(program_start) &&
            m[i].size > kpa(program_start) - m[i].addr)
            return m[i].addr + m[i].size;
    return 0;
}

void standalone_boot(uint64_t at)
{
    const struct start_info *info = kva(at);

    out8(0x21, 0xff); /* nothing from the 8259s */
    out8(0xa1, 0xff);
    out8(COM1 + 1, 0);
    out8(COM1 + 3, 3); /* 8 bits */
    boot = (struct mayfly_boot){.flags = MAYFLY_BOOT_DIRTY,
                                .mem_size = memory(info),
                                .image_end = page_up(kpa(program_end)),
                                .program_gpa = kpa(program_start),
                                .program_len = (uint64_t)(program_end - program_start)};
    boot.tsc_hz = tsc_hz();
    make_seed();
    take_arguments(info->cmdline ? kva(info->cmdline) : NULL);
}

/* --- the monitor's calls --- */

static void put(char c)
{
    for (unsigned i = 0; i < 100000 && !(in8(COM1 + 5) & 0x20); i++)
        ;
    out8(COM1, (uint8_t)c);
}

static uint8_t cmos(uint8_t reg)
{
    out8(0x70, reg);
    return in8(0x71);
}

/* Seconds since 1970 by the CMOS clock, which is taken to show UTC; 0: there is none. */
static int64_t cmos_seconds(void)
{
    static const uint8_t regs[6] = {0, 2, 4, 7, 8, 9};
    static const uint16_t before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    uint32_t v[6];

    for (unsigned i = 0; i < 100000 && cmos(10) & 0x80; i++)
        ;
    bool binary = cmos(11) & 4;

    for (unsigned i = 0; i < 6; i++) {
        v[i] = cmos(regs[i]);
        if (!binary)
            v[i] = (v[i] >> 4) * 10 + (v[i] & 15);
    }
    if (v[3] < 1 || v[3] > 31 || v[4] < 1 || v[4] > 12 || v[5] > 99)
        return 0;
    /* Years 2000 to 2099: each fourth is a leap year. */
    int64_t days = 10957 + v[5] * 365 + (v[5] + 3) / 4 + before[v[4] - 1] + v[3] - 1;

    days += v[4] > 2 && v[5] % 4 == 0;
    return ((days * 24 + v[2]) * 60 + v[1]) * 60 + v[0];
}

static _Noreturn void stop(uint32_t status)
{
    __asm__ volatile("outl %0, %1" : : "a"(status), "Nd"((uint16_t)DEBUG_EXIT));
    for (unsigned i = 0; i < 1000 && in8(0x64) & 2; i++)
        ;
    out8(0x64, 0xfe);
    /* No keyboard controller: a triple fault. */
    static const char no_idt[10];

    for (;;)
        __asm__ volatile("lidt %0; ud2" : : "m"(no_idt));
}

int64_t standalone_call(uint32_t op, uint32_t fd, const void *buf, uint64_t len)
{
    const char *s = buf;

    switch (op) {
    case MAYFLY_CALL_WRITE:
        for (uint64_t i = 0; i < len; i++) {
            if (s[i] == '\n')
                put('\r');
            put(s[i]);
        }
        return (int64_t)len;
    case MAYFLY_CALL_READ: /* the end: a serial line has none to wait for */
        return 0;
    case MAYFLY_CALL_INPUT:
        return 1;
    case MAYFLY_CALL_WALLTIME:
        return cmos_seconds() * (int64_t)NS;
    case MAYFLY_CALL_EXIT:
        stop((uint32_t)len);
    default:
        (void)fd;
        return -ENOSYS;
    }
}
