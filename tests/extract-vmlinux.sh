#!/bin/bash
# extract-vmlinux.sh BZIMAGE OUT: the ELF inside, by the setup header's own fields
# (Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length).
set -eu
bz=$1 out=$2
number() { # offset length: little-endian
    od -An -v -tu"$2" -j"$1" -N"$2" "$bz" | tr -d ' '
}
[ "$(od -An -c -j$((0x202)) -N4 "$bz" | tr -d ' ')" = HdrS ] ||
    { echo "$bz: not a bzImage" >&2; exit 1; }
sects=$(number $((0x1f1)) 1)
[ "$sects" -ne 0 ] || sects=4
start=$(((sects + 1) * 512 + $(number $((0x248)) 4)))
length=$(number $((0x24c)) 4)
payload() { tail -c +$((start + 1)) "$bz" | head -c "$length"; }
case $(payload | head -c 4 | od -An -tx1 | tr -d ' \n') in
# The last four bytes are the unpacked size, not part of the stream: lz4 stops there and says so.
02214c18) payload | lz4 -dc 2>/dev/null >"$out.tmp" || true ;;
1f8b*) payload | gzip -dc 2>/dev/null >"$out.tmp" || true ;;
fd377a58) payload | xz -dc --single-stream 2>/dev/null >"$out.tmp" || true ;;
28b52ffd) payload | zstd -dc 2>/dev/null >"$out.tmp" || true ;;
*)
    echo "$bz: unknown compression" >&2
    exit 1
    ;;
esac
length=$(number $((start + length - 4)) 4)
if [ "$(stat -c %s "$out.tmp")" -ne "$length" ]; then
    echo "$bz: unpacked to $(stat -c %s "$out.tmp") bytes, $length expected" >&2
    exit 1
fi
mv "$out.tmp" "$out"
