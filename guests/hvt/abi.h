/*
 * The Solo5 "hvt" interface, version 2, for x86-64: what such a unikernel and its monitor share.
 * Used on both sides: plain C, fixed sizes, no include beyond stdint.h and stddef.h.
 *
 * Entry: 64-bit mode, CPL 0, no interrupts ever; RDI = gpa of struct hvt_boot, RSP = end of memory
 * - 8. Memory is [0, mem_size), mapped where it is: below 64 KiB not at all, from there to 1 MiB
 * read-only, the rest read-write; on top of that the image's segments keep their own rights.
 *
 * A hypercall is a 32-bit OUT of the gpa of its block to port HVT_PORT + its number.
 */
#ifndef GUESTS_HVT_ABI_H
#define GUESTS_HVT_ABI_H

#include <stddef.h>
#include <stdint.h>

/* --- ELF notes, name "Solo5" --- */
#define HVT_NOTE_NAME "Solo5"
#define HVT_NOTE_ABI  0x31494241u /* "ABI1": struct hvt_abi */
#define HVT_NOTE_MFT  0x3154464du /* "MFT1": 4 bytes of padding, struct hvt_manifest */

struct hvt_abi {
    uint32_t target; /* HVT_TARGET, ... */
    uint32_t version;
    uint32_t reserved[2];
};
enum {
    HVT_TARGET = 1,
    HVT_TARGET_SPT,
    HVT_TARGET_VIRTIO,
    HVT_TARGET_MUEN,
    HVT_TARGET_GENODE,
    HVT_TARGET_XEN
};
#define HVT_VERSION 2u

/* --- the manifest: which devices the image wants; the monitor fills in what they are --- */
#define HVT_MFT_VERSION 1u
#define HVT_MFT_ENTRIES 64u
#define HVT_NAME_SIZE   68u

enum { HVT_DEV_BLOCK = 1, HVT_DEV_NET = 2, HVT_DEV_RESERVED = 1 << 30 };

struct hvt_device {
    char name[HVT_NAME_SIZE]; /* NUL at the end */
    uint32_t type;
    union {
        struct {
            uint64_t capacity; /* bytes */
            uint16_t block_size;
        } block;
        struct {
            uint8_t mac[6];
            uint16_t mtu;
        } net;
    };
    uint64_t monitor; /* the monitor's own; 0 in the image */
    uint8_t attached; /* 0 in the image */
    uint8_t reserved[7];
};

/* A device's handle is the index of its entry; entry 0 is none (HVT_DEV_RESERVED, no name). */
struct hvt_manifest {
    uint32_t version, entries;
    struct hvt_device device[];
};

/* --- at the entry --- */
#define HVT_BOOT_GPA   0x10000u
#define HVT_LOAD_MIN   0x100000u
#define HVT_CMDLINE    8192u /* bytes, NUL included */
#define HVT_PAGE       0x200000u
#define HVT_MEMORY_MAX 0x100000000u

struct hvt_boot {
    uint64_t mem_size;
    uint64_t kernel_end; /* end of the image in memory */
    uint64_t tsc_hz;     /* frequency of RDTSC */
    uint64_t cmdline;    /* gpa of a string */
    uint64_t manifest;   /* gpa of struct hvt_manifest */
    uint32_t host_features, guest_features;
    uint64_t net_ring; /* 0: no ring */
};

/* --- hypercalls --- */
#define HVT_PORT 0x500u
enum {
    HVT_WALLTIME = 1,
    HVT_PUTS,
    HVT_POLL,
    HVT_BLOCK_WRITE,
    HVT_BLOCK_READ,
    HVT_NET_WRITE,
    HVT_NET_READ,
    HVT_HALT,
    HVT_CALLS
};
/* ret */
enum { HVT_OK, HVT_AGAIN, HVT_EINVAL, HVT_EUNSPEC };

struct hvt_walltime {
    uint64_t ns; /* out */
};
struct hvt_puts {
    uint64_t data, len;
};
struct hvt_poll {
    uint64_t timeout_ns;
    uint64_t ready; /* out: bit n for handle n */
    int32_t ret;    /* out: how many are ready */
};
struct hvt_block_io {
    uint64_t handle, offset, data, len;
    int32_t ret; /* out */
};
struct hvt_net_io {
    uint64_t handle, data, len; /* len: out as well, when reading */
    int32_t ret;                /* out */
};
struct hvt_halt {
    uint64_t cookie; /* gpa of a struct hvt_trap, or 0 */
    int32_t status;
};
#define HVT_STATUS_ABORT 255

/* What HVT_HALT's cookie points to after an exception; HVT_COOKIE bytes must be there. */
#define HVT_COOKIE 512u
struct hvt_trap {
    uint64_t cr2, error, rip, cs, rflags, rsp, ss;
};

_Static_assert(sizeof(struct hvt_device) == 104, "manifest entry");
_Static_assert(offsetof(struct hvt_device, type) == 68, "manifest entry");
_Static_assert(offsetof(struct hvt_device, block) == 72, "manifest entry");
_Static_assert(offsetof(struct hvt_device, net.mtu) == 78, "manifest entry");
_Static_assert(offsetof(struct hvt_device, attached) == 96, "manifest entry");
_Static_assert(sizeof(struct hvt_boot) == 56, "boot information");
_Static_assert(offsetof(struct hvt_poll, ret) == 16, "hypercall");
_Static_assert(offsetof(struct hvt_block_io, ret) == 32, "hypercall");
_Static_assert(offsetof(struct hvt_net_io, ret) == 24, "hypercall");

#endif
