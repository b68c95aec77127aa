/*
 * Real-mode interrupt vectors, for a guest that was started by a boot loader's protocol and takes
 * it that there is a BIOS: Xen asks one for disks and a screen on its way to long mode. There is
 * none. Its services fail as a BIOS's do that does not know them, with CF set and AH 86h (IBM PS/2
 * BIOS Interface Technical Reference, INT 15h), INT 12h has the memory's size, and everything else
 * returns. Vectors of zeros would have the guest execute the vectors.
 */
#include "monitor/loader.h"

#define HANDLERS    0x4f0u /* in the BIOS data area: the 16 bytes kept for programs */
#define FAIL        (HANDLERS + 0)
#define RETURN      (HANDLERS + 10)
#define MEMORY_SIZE (HANDLERS + 11)
#define FIRST       0x10u /* INT 10h to 1Fh are services or, from 1Dh, tables */
#define LAST        0x1fu
#define INT_MEMORY  0x12u

#define BASE_KB (BOOT_EBDA / 1024)

void bios_vectors(struct ram *ram)
{
    static const uint8_t handlers[] = {
        0x55,                                     /* fail: push bp */
        0x89, 0xe5,                               /* mov bp, sp */
        0x80, 0x4e,           0x06,         0x01, /* or byte [bp+6], 1: CF of the caller */
        0x5d,                                     /* pop bp */
        0xb4, 0x86,                               /* mov ah, 86h */
        0xcf,                                     /* return: iret */
        0xb8, BASE_KB & 0xff, BASE_KB >> 8,       /* memory size: mov ax, 639 */
        0xcf,                                     /* iret */
    };
    uint32_t *vector = ram_ptr(ram, 0, HANDLERS + sizeof handlers);

    if (!vector)
        return;
    for (unsigned i = 0; i < 256; i++)
        vector[i] = i < FIRST || i > LAST ? RETURN : i == INT_MEMORY ? MEMORY_SIZE : FAIL;
    boot_copy(ram, HANDLERS, handlers, sizeof handlers);
}
