/* The manifest of an hvt guest: DISKS disks 'disk0', ... and NETS networks 'net0', ... */
#include "guests/hvt/abi.h"

#define DISK(n)                                  \
    {                                            \
        .name = "disk" #n, .type = HVT_DEV_BLOCK \
    }
#define NET(n)                                \
    {                                         \
        .name = "net" #n, .type = HVT_DEV_NET \
    }

__attribute__((section(".note.hvt.manifest"), used, aligned(8))) static const struct {
    uint32_t namesz, descsz, type;
    char name[8];
    uint32_t padding;
    uint32_t version, entries;
    struct hvt_device device[1 + DISKS + NETS];
} note = {
    .namesz = sizeof HVT_NOTE_NAME,
    .descsz = 4 + 8 + (1 + DISKS + NETS) * sizeof(struct hvt_device),
    .type = HVT_NOTE_MFT,
    .name = HVT_NOTE_NAME,
    .version = HVT_MFT_VERSION,
    .entries = 1 + DISKS + NETS,
    .device =
        {
            {.type = HVT_DEV_RESERVED},
#if DISKS > 0
            DISK(0),
#endif
#if DISKS > 1
            DISK(1),
#endif
#if NETS > 0
            NET(0),
#endif
#if NETS > 1
            NET(1),
#endif
        },
};
