/* The two halves of the block device: requests (blk.c), and the file behind it (blk_file.c). */
#ifndef VIRTIO_BLK_H
#define VIRTIO_BLK_H

#include "virtio/virtio.h"

#define BLK_SERIAL 20u

/* VIRTIO 1.2 §5.2.4 */
struct blk_config {
    uint64_t capacity; /* in 512-byte sectors */
    uint32_t size_max, seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
    uint8_t physical_block_exp, alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
} __attribute__((packed));
_Static_assert(sizeof(struct blk_config) == 60, "VIRTIO 1.2 5.2.4");

struct blk_file {
    int fd;
    bool read_only, direct;
    uint64_t size;           /* bytes, a multiple of block */
    uint32_t block;          /* the smallest unit of I/O, 512 to 4096 */
    uint32_t memory_align;   /* direct: of buffers */
    char serial[BLK_SERIAL]; /* padded with NULs, none at full length */
    char label[128];
};

/* "FILE[,ro][,direct][,serial=S]"; a comma in FILE is written twice. Opens and locks it: one writer
 * or any number of readers at a time. 0, or -errno with a clause for the user in err. */
int blk_file_open(const char *arg, struct blk_file *f, char *err, size_t len);

#endif
