#!/bin/bash
# The block device beside QEMU's TCG (q35, virtio-pci): the same kernel, initrd and image, in
# turns. Requests a second at several depths, and what a request cost in notifications, interrupts and
# exits (QEMU does not tell its own).
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
kernel=.cache/vmlinux
append="console=ttyS0 panic=-1 reboot=t quiet"
qemu=$(command -v qemu-system-x86_64)
[ -s $kernel ] && [ -d .cache/root ] || { echo "blk: skipped, no kernel in .cache"; exit 0; }
musl-gcc -static -O2 -D_GNU_SOURCE -idirafter /usr/include \
    -idirafter /usr/include/x86_64-linux-gnu -o "$tmp/aioread" tests/aioread.c || exit 1
cat >"$tmp/script" <<'END'
echo "T: $d $(aioread /dev/vda $o $d $n $b)"
END
MODULES="virtio/virtio_pci_legacy_dev virtio/virtio_pci_modern_dev virtio/virtio_pci" \
    tests/guest_initrd.sh "$tmp/initrd" "$tmp/script" "$tmp/aioread" || exit 1
head -c 64M /dev/urandom >"$tmp/disk"

# seconds FILE: of the guest's own clock
seconds() { tr -d '\r' <"$1" | sed -n 's/^T: .* requests, \([0-9.]*\) s$/\1/p'; }
stat_of() {
    python3 -c 'import json,sys; print(json.load(open(sys.argv[1])).get("blk0",{}).get(sys.argv[2],0))' \
        "$tmp/stats" "$1"
}

echo "blk: requests a second, one CPU, O_DIRECT in the guest; notifications / interrupts / exits a request"
for case in "read 1 4096 5000" "read 4 4096 5000" "read 32 4096 10000" "read 128 4096 10000" \
    "write 32 4096 10000" "read 8 131072 500" "write 8 131072 500"; do
    read -r o d b n <<<"$case"
    vars="o=$o d=$d b=$b n=$n"
    "$mayfly" run --engine bt -m 256M --timeout 100 --stats="$tmp/stats" --disk "$tmp/disk" \
        --initrd "$tmp/initrd" $kernel $append $vars </dev/null >"$tmp/ours" 2>"$tmp/err"
    a=$(seconds "$tmp/ours") q=
    if [ -n "$qemu" ]; then
        timeout 30 "$qemu" -M q35 -accel tcg,thread=single -cpu max -nodefaults -display none \
            -serial stdio -m 256M -kernel .cache/vmlinuz -initrd "$tmp/initrd" \
            -append "$append $vars" -drive "file=$tmp/disk,format=raw,if=none,id=d,aio=io_uring" \
            -device virtio-blk-pci,drive=d </dev/null >"$tmp/theirs" 2>"$tmp/qerr"
        q=$(seconds "$tmp/theirs")
    fi
    awk -v c="$o, ${b} bytes, depth $d" -v n="$n" -v a="${a:-0}" -v q="${q:-0}" \
        -v x="$(stat_of notifications_per_request) / $(stat_of interrupts_per_request) / $(stat_of exits_per_request)" 'BEGIN {
        printf "  %-30s mayfly bt %8.0f/s", c, (a > 0 ? n / a : 0)
        if (q > 0) printf "   QEMU TCG %8.0f/s   %5.2f times", n / q, (a > 0 ? q / a : 0)
        printf "   %s\n", x }'
done
