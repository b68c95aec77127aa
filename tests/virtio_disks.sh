#!/bin/bash
# shellcheck source=tests/lib.sh source=tests/blk_lib.sh
# Disks that are devices of the host, with their errors; several CPUs; fio.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/blk_lib.sh"
reason=$(no_guest)
if [ -n "$reason" ]; then
    skipped "disks under Debian" "$reason"
    finish
fi
blk_initrd || exit 1
mkdir -p "$tmp/tree/f"
head -c 3000000 /dev/urandom >"$tmp/tree/known"
sum=$(sha256sum <"$tmp/tree/known" | cut -d' ' -f1)

loops=()
cleanup() {
    umount "$tmp/mnt" 2>/dev/null
    for l in "${loops[@]}"; do losetup -d "$l" 2>/dev/null; done
    rm -rf "$tmp"
}
trap cleanup EXIT
loop() { # FILE [OPTION…]: $dev, a block device over it
    local file=$1
    shift
    dev=$(losetup -f --show "$@" "$file" 2>"$tmp/err") || return 1
    loops+=("$dev")
}
# files NAME DISK IMAGE OPTION…: the guest reads, writes, and the image holds it
files() {
    local name="disks: files, $1" disk=$2 image=$3
    shift 3
    if ! guest files --disk "$disk" "$@" || [ "$(cat "$tmp/text")" != "T: mounted
T: sum $sum
T: copy $sum" ]; then
        not_ok "$name" "$(why)"
        return
    fi
    sync "$image"
    if clean "$image" && [ "$(debugfs -R "cat copy" "$image" 2>/dev/null | sha256sum | cut -d' ' -f1)" = "$sum" ]; then
        ok "$name"
    else
        not_ok "$name" "fsck: $(tail -n 1 "$tmp/fsck")"
    fi
}

# --- several CPUs: completions and notifications cross ---
for cpus in 2 4; do
    image "$tmp/disk" 64 "$tmp/tree"
    files "$cpus CPUs" "$tmp/disk,direct" "$tmp/disk" -c $cpus
done
MAYFLY_NO_IO_URING=1
export MAYFLY_NO_IO_URING
image "$tmp/disk" 64 "$tmp/tree"
files "4 CPUs, threads" "$tmp/disk" "$tmp/disk" -c 4
unset MAYFLY_NO_IO_URING

# --- block devices ---
image "$tmp/disk" 64 "$tmp/tree"
if ! loop "$tmp/disk"; then
    skipped "disks: block devices" "no loop device: $(head -n 1 "$tmp/err")"
else
    image=$dev
    files "a block device" "$dev" "$dev"
    guest trim --disk "$dev,direct"
    if grep -qx "T: trimmed" "$tmp/text" && clean "$dev"; then ok "disks: discard, a block device"; else not_ok "disks: discard, a block device" "$(why)"; fi
    files "a block device, direct" "$dev,direct" "$dev"
    mkdir -p "$tmp/mnt"
    if mount "$dev" "$tmp/mnt" 2>/dev/null; then
        refuses "a mounted device" "--disk $dev: in use on the host; unmount it, or give ,ro" --disk "$dev"
        guest sector --disk "$dev,ro"
        if grep -qx "T: sector 512 131072" "$tmp/text"; then ok "disks: a mounted device, read-only"; else not_ok "disks: a mounted device, read-only" "$(why)"; fi
        umount "$tmp/mnt"
    fi
    truncate -s 8M "$tmp/large"
    if loop "$tmp/large" -b 4096; then
        guest sector --disk "$dev"
        if grep -qx "T: sector 4096 16384" "$tmp/text"; then ok "disks: sectors of 4096 bytes"; else not_ok "disks: sectors of 4096 bytes" "$(why)"; fi
    fi
    # A device that answers EIO: its medium ends at 1 MiB.
    truncate -s 16M "$tmp/short"
    loop "$tmp/short"
    truncate -s 1M "$tmp/short"
    for way in "" ,direct; do
        guest errors --disk "$dev$way,ro"
        if [ "$(cat "$tmp/text")" = "T: alive" ]; then ok "disks: EIO of the host$way"; else not_ok "disks: EIO of the host$way" "$(why)"; fi
    done
    MAYFLY_NO_IO_URING=1 guest errors --disk "$dev,ro"
    if [ "$(cat "$tmp/text")" = "T: alive" ]; then ok "disks: EIO of the host, threads"; else not_ok "disks: EIO of the host, threads" "$(why)"; fi
    # One whose medium is full: writes that the host's cache took fail at the flush.
    mkdir -p "$tmp/small"
    if mount -t tmpfs -o size=4m tmpfs "$tmp/small" 2>/dev/null; then
        truncate -s 16M "$tmp/small/disk"
        loop "$tmp/small/disk"
        guest errors --disk "$dev"
        if ! grep -q "written" "$tmp/text" && grep -qx "T: alive" "$tmp/text"; then
            ok "disks: errors of the host at the flush"
        else
            not_ok "disks: errors of the host at the flush" "$(why)"
        fi
        losetup -d "$dev"
        umount -l "$tmp/small"
    fi
fi

# --- fio, out of the host's package, with its libraries ---
if ! command -v fio >/dev/null; then
    skipped "disks: fio" "the package fio is not installed"
    finish
fi
mkdir -p "$tmp/tree/fio"
fio=$(command -v fio)
cp "$fio" "$tmp/tree/fio/fio"
ldd "$fio" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | xargs cp -L -t "$tmp/tree/fio"
cp -L /lib64/ld-linux-x86-64.so.2 "$tmp/tree/fio/ld"
rm "$tmp/tree/known"
image "$tmp/disk" 192 "$tmp/tree"
guest fio --disk "$tmp/disk,direct"
if grep -qx "T: verified 0" "$tmp/text" && grep -qx "T: kB 24576" "$tmp/text" && clean "$tmp/disk"; then
    ok "disks: fio writes and verifies, reads at depth 32"
else
    not_ok "disks: fio" "$(why)"
fi
power_offs "fio" fiopower 10
finish
