/* What the interface promises, looked at from inside. */
#include "guests/hvt/hvt.h"

static uint64_t cr(unsigned n)
{
    uint64_t v;

    switch (n) {
    case 0:
        __asm__ volatile("movq %%cr0, %0" : "=r"(v));
        break;
    case 3:
        __asm__ volatile("movq %%cr3, %0" : "=r"(v));
        break;
    default:
        __asm__ volatile("movq %%cr4, %0" : "=r"(v));
    }
    return v;
}

static uint64_t efer(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(0xc0000080u));
    return lo | (uint64_t)hi << 32;
}

void hvt_layout(void)
{
    const struct hvt_boot *b = hvt_info;
    uint64_t flags;
    uint16_t cs, ss;

    __asm__ volatile("pushfq; popq %0" : "=r"(flags));
    __asm__ volatile("movw %%cs, %0; movw %%ss, %1" : "=r"(cs), "=r"(ss));
    hvt_check((uint64_t)b == HVT_BOOT_GPA, "boot information at 64 KiB");
    hvt_check(b->mem_size && b->mem_size % HVT_PAGE == 0, "whole 2 MiB of memory");
    hvt_check(hvt_first_rsp == b->mem_size - 8, "stack at the end of memory");
    hvt_check(b->kernel_end == (uint64_t)hvt_end, "end of the image");
    hvt_check(b->tsc_hz > 100000000 && b->tsc_hz < 20000000000, "TSC frequency");
    hvt_check(b->manifest >= HVT_BOOT_GPA + sizeof *b && b->manifest < HVT_LOAD_MIN,
              "manifest in low memory");
    hvt_check(b->cmdline > b->manifest && b->cmdline < HVT_LOAD_MIN, "command line behind it");
    hvt_check((cr(0) & 0xe005003fu) == (0x80010000u | (cr(0) & 0x12u) | 0x21u), "CR0");
    hvt_check(cr(4) == 0x620, "CR4");
    hvt_check(efer() == 0x500, "EFER");
    hvt_check(cr(3) == 0x2000, "CR3");
    hvt_check(cs == 8 && ss == 16, "selectors");
    hvt_check(!(flags & 0x200), "no interrupts");
    hvt_check(*(volatile const uint64_t *)0xffff8 == 0, "low memory can be read and is clear");
    *(volatile uint64_t *)(b->mem_size - 4096 * 8) = 1;
    hvt_check(*(volatile uint64_t *)(b->mem_size - 4096 * 8) == 1, "the last pages are writable");
}

static uint64_t walltime(void)
{
    volatile struct hvt_walltime t = {0};

    hvt_call(HVT_WALLTIME, (uint32_t)(uintptr_t)&t);
    return t.ns;
}

/* Lower bounds only: what a busy host adds is no error. */
void hvt_clock(void)
{
    uint64_t wall = walltime(), start = hvt_tsc_ns(), now;
    int32_t ret;
    bool none;

    hvt_check(wall > 1700000000000000000u, "wall time is after 2023");
    none = hvt_poll(20000000, &ret) == 0;
    now = hvt_tsc_ns();
    hvt_check(none && ret == 0, "nothing is ready");
    hvt_check(now - start >= 20000000, "slept 20 ms by TSC");
    hvt_check(walltime() - wall >= 19000000, "and by wall time");
    none = hvt_poll(0, &ret) == 0;
    hvt_check(none && ret == 0, "a look without waiting");
    start = hvt_tsc_ns();
    hvt_poll(1500, &ret);
    hvt_check(hvt_tsc_ns() - start >= 1500, "slept 1.5 us");
}

static uint8_t sector[4096], back[4096];

static void fill(uint8_t *p, unsigned len, unsigned seed)
{
    for (unsigned i = 0; i < len; i++)
        p[i] = (uint8_t)(i * 7 + seed + (i >> 8));
}

static bool equal(const uint8_t *a, const uint8_t *b, unsigned len)
{
    for (unsigned i = 0; i < len; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* On disk0, of at least 64 KiB; the last sector is left filled with seed 3, the first with 1. */
void hvt_disks(void)
{
    uint64_t h = hvt_device("disk0");
    const struct hvt_device *d = hvt_entry_of(h);
    uint64_t size = d->block.capacity, block = d->block.block_size;

    hvt_printf("disk0: %lu bytes, sectors of %lu\n", size, block);
    hvt_check(h && d->attached && d->type == HVT_DEV_BLOCK, "attached");
    fill(sector, 512, 1);
    hvt_check(hvt_block(true, h, 0, sector, 512) == HVT_OK, "write the first sector");
    hvt_check(hvt_block(false, h, 0, back, 512) == HVT_OK && equal(sector, back, 512), "read it");
    fill(sector, 512, 3);
    hvt_check(hvt_block(true, h, size - 512, sector, 512) == HVT_OK, "write the last sector");
    fill(sector, 4096, 2);
    hvt_check(hvt_block(true, h, 4096, sector, 4096) == HVT_OK, "write eight");
    hvt_check(hvt_block(false, h, 4097, back, 4095) == HVT_OK && equal(sector + 1, back, 4095),
              "read from an odd place");
    hvt_check(hvt_block(false, h, 0, back, 0) == HVT_OK, "read nothing");
    hvt_check(hvt_block(false, h, size, back, 512) == HVT_EINVAL, "past the end");
    hvt_check(hvt_block(true, h, size - 512, sector, 1024) == HVT_EINVAL, "over the end");
    hvt_check(hvt_block(true, h, ~0ull - 511, sector, 512) == HVT_EINVAL, "at the end of time");
    hvt_check(hvt_block(true, h, 512, sector, ~0ull) == HVT_EINVAL, "a length that wraps");
    hvt_check(hvt_block(false, 0, 0, back, 512) == HVT_EINVAL, "handle 0");
    hvt_check(hvt_block(false, 1000, 0, back, 512) == HVT_EINVAL, "handle 1000");
    hvt_check(hvt_block(false, ~0ull, 0, back, 512) == HVT_EINVAL, "handle -1");
    uint64_t len = 100;

    hvt_check(hvt_net(false, h, back, &len) == HVT_EINVAL, "a disk is no network");
    hvt_check(hvt_net(true, h, sector, &len) == HVT_EINVAL, "nor to be sent to");
}

static uint8_t frame[70000];

/* Send back what comes, from whichever network, the addresses exchanged; frames: then stop. */
void hvt_echo(unsigned frames)
{
    const struct hvt_device *d;
    uint64_t len = sizeof frame, h = hvt_device("net0");
    int32_t ret;

    for (uint64_t i = 1; (d = hvt_entry_of(i)); i++)
        if (d->type == HVT_DEV_NET)
            hvt_printf("%s: %lx:%lx:%lx:%lx:%lx:%lx mtu %lu\n", d->name, (uint64_t)d->net.mac[0],
                       (uint64_t)d->net.mac[1], (uint64_t)d->net.mac[2], (uint64_t)d->net.mac[3],
                       (uint64_t)d->net.mac[4], (uint64_t)d->net.mac[5], (uint64_t)d->net.mtu);
    hvt_check(hvt_net(false, h, frame, &len) == HVT_AGAIN, "nothing has come yet");
    len = 13;
    hvt_check(hvt_net(true, h, frame, &len) == HVT_EINVAL, "half a header is no frame");
    len = sizeof frame;
    hvt_check(hvt_net(true, h, frame, &len) == HVT_EINVAL, "nor is all that can be");
    len = 100;
    hvt_check(hvt_net(true, 77, frame, &len) == HVT_EINVAL, "handle 77");
    hvt_check(hvt_block(false, h, 0, frame, 512) == HVT_EINVAL, "a network is no disk");
    hvt_print("serving\n");
    while (frames) {
        uint64_t ready = hvt_poll(60000000000u, &ret);

        if (!ready || ret < 1 || ret > 2)
            hvt_exit(3, 0);
        for (h = 1; h < 64; h++) {
            if (!(ready >> h & 1))
                continue;
            len = sizeof frame;
            if (hvt_net(false, h, frame, &len) != HVT_OK || frame[12] != 0x88 || frame[13] != 0xb5)
                continue; /* not ours */
            for (unsigned i = 0; i < 6; i++) {
                uint8_t b = frame[i];

                frame[i] = frame[6 + i];
                frame[6 + i] = b;
            }
            if (hvt_net(true, h, frame, &len) != HVT_OK)
                hvt_exit(4, 0);
            frames--;
        }
    }
}

/* RFC 826, on Ethernet. */
struct arp {
    uint8_t to[6], from[6];
    uint8_t kind[10]; /* ethertype, hardware, protocol, their lengths, operation */
    uint8_t sender[6], sender_ip[4], target[6], target_ip[4];
} __attribute__((packed));

void hvt_arp(uint32_t address)
{
    static const uint8_t request[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
    uint64_t h = hvt_device("net0"), len;
    const struct hvt_device *d = hvt_entry_of(h);
    struct arp a = {.to = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, *r = (struct arp *)frame;
    int32_t ret;

    for (unsigned i = 0; i < 6; i++)
        a.from[i] = a.sender[i] = d->net.mac[i];
    for (unsigned i = 0; i < sizeof request; i++)
        a.kind[i] = request[i];
    for (unsigned i = 0; i < 4; i++)
        a.target_ip[i] = (uint8_t)(address >> (24 - 8 * i));
    len = sizeof a;
    hvt_check(hvt_net(true, h, &a, &len) == HVT_OK, "ask");
    for (unsigned n = 0; n < 1000; n++) {
        uint64_t ready = hvt_poll(10000000000u, &ret);

        len = sizeof frame;
        if (!ready)
            break;
        if (hvt_net(false, h, frame, &len) == HVT_OK && len >= sizeof a && r->kind[1] == 6 &&
            r->kind[9] == 2 && equal(r->sender_ip, a.target_ip, 4)) {
            hvt_check(equal(r->to, d->net.mac, 6) && ready == 1ull << h, "the answer is for me");
            return;
        }
    }
    hvt_check(false, "an answer");
}
