/* What a file that is no kernel looks like: words for the error, nothing depends on them. */
#include <stdio.h>
#include <string.h>
#include "monitor/elf.h"
#include "monitor/loader.h"

struct kind {
    uint32_t at, len;
    const char *bytes, *words;
};

static const struct kind kinds[] = {
    {0, 2, "#!", "a script"},
    {0, 2, "\x1f\x8b", "a gzip file (unpack it first; an initrd goes to --initrd)"},
    {0, 6,
     "\xfd"
     "7zXZ\0",
     "an xz file (unpack it first)"},
    {0, 4, "\x28\xb5\x2f\xfd", "a zstd file (unpack it first)"},
    {0, 4, "\x04\x22\x4d\x18", "an lz4 file (unpack it first)"},
    {0, 4, "\x02\x21\x4c\x18", "an lz4 file (unpack it first)"},
    {0, 3, "BZh", "a bzip2 file (unpack it first)"},
    {0, 6, "070701", "a cpio archive (an initrd goes to --initrd)"},
    {0, 6, "070702", "a cpio archive (an initrd goes to --initrd)"},
    {257, 5, "ustar", "a tar archive"},
    {0, 4, "PK\x03\x04", "a zip archive"},
    {0, 8, "!<arch>\n", "an archive of object files or a Debian package"},
    {0, 4, "\xed\xab\xee\xdb", "an RPM package"},
    {0, 4, "QFI\xfb", "a qcow2 disk image"},
    {0, 4, "KDMV", "a VMDK disk image"},
    {0x8001, 5, "CD001", "an ISO 9660 image"},
    {0x38, 4, "ARM\x64", "a 64-bit Arm Linux kernel"},
    {0, 4, "\xcf\xfa\xed\xfe", "a macOS program"},
    {0, 4,
     "\x7f"
     "ELF",
     "an ELF file"},
    {0, 2, "MZ", "a Windows or EFI program"},
    {0x438, 2, "\x53\xef", "an ext2/3/4 file system"},
    {0x1fe, 2, "\x55\xaa", "a disk image or boot sector"},
};

/* Nothing but printable characters, white space and UTF-8 in the first bytes. */
static bool is_text(const struct boot_image *img)
{
    uint64_t n = img->len < 512 ? img->len : 512;

    for (uint64_t i = 0; i < n; i++) {
        uint8_t c = img->data[i];

        if (c == 0x7f || (c < 0x20 && !(c >= '\t' && c <= '\r') && c != 0x1b))
            return false;
    }
    return true;
}

static bool is_zero(const struct boot_image *img)
{
    uint64_t n = img->len < 4096 ? img->len : 4096;

    for (uint64_t i = 0; i < n; i++)
        if (img->data[i])
            return false;
    return true;
}

const char *boot_describe(const struct boot_image *img, char *buf, size_t size)
{
    if (!img->data || !img->len)
        return "an empty file";
    if (boot_linux_probe(img))
        return "a Linux bzImage";
    if (!elf_magic(img) && boot_multiboot_probe(img))
        return "a multiboot kernel";
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const struct kind *k = &kinds[i];

        if (img->len >= (uint64_t)k->at + k->len && !memcmp(img->data + k->at, k->bytes, k->len))
            return k->words;
    }
    if (is_zero(img))
        return "a file of zeros";
    if (is_text(img))
        return "a text file";
    snprintf(buf, size, "an unknown kind of file (%llu bytes)", (unsigned long long)img->len);
    return buf;
}
