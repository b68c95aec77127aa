#!/bin/bash
# The block device beside QEMU's TCG (q35, virtio-pci): the same kernel, initrd and image, in
# turns. Requests and MB a second at several depths, and what a request cost in notifications,
# interrupts and exits; QEMU's notifications and interrupts are those it traces in a run of their own,
# its exits to device code are no less.
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

# qemu_run REQUESTS OUT OPTION…: the case in QEMU
qemu_run() {
    local vars="o=$o d=$d b=$b n=$1" out=$2
    shift 2
    timeout 30 "$qemu" -M q35 -accel tcg,thread=single -cpu max -nodefaults -display none \
        -serial stdio -m 256M -kernel .cache/vmlinuz -initrd "$tmp/initrd" \
        -append "$append $vars" -drive "file=$tmp/disk,format=raw,if=none,id=d,aio=io_uring" \
        -device virtio-blk-pci,drive=d "$@" </dev/null >"$out" 2>"$tmp/qerr"
}
traced() { # EVENT PER: how often, by request
    awk -v e="$1" -v n="$2" '$1 ~ "^" e { k++ } END { printf "%.3f", k / n }' "$tmp/trace"
}

echo "blk: one CPU, O_DIRECT in the guest; a request's notifications / interrupts / exits (QEMU: / ?)"
for case in "read 1 4096 5000" "read 4 4096 5000" "read 32 4096 10000" "read 128 4096 10000" \
    "write 32 4096 10000" "read 8 131072 500" "write 8 131072 500"; do
    read -r o d b n <<<"$case"
    vars="o=$o d=$d b=$b n=$n"
    "$mayfly" run --engine bt -m 256M --timeout 100 --stats="$tmp/stats" --disk "$tmp/disk" \
        --initrd "$tmp/initrd" $kernel $append $vars </dev/null >"$tmp/ours" 2>"$tmp/err"
    a=$(seconds "$tmp/ours") q= cost=
    if [ -n "$qemu" ]; then
        qemu_run "$n" "$tmp/theirs"
        q=$(seconds "$tmp/theirs")
        : >"$tmp/trace"
        qemu_run "$n" "$tmp/traced" -trace virtio_queue_notify -trace virtio_notify \
            -trace virtio_notify_irqfd -D "$tmp/trace"
        cost="$(traced virtio_queue_notify "$n") / $(traced virtio_notify "$n") / ?"
    fi
    awk -v c="$o, ${b} bytes, depth $d" -v n="$n" -v b="$b" -v a="${a:-0}" -v q="${q:-0}" -v y="$cost" \
        -v x="$(stat_of notifications_per_request) / $(stat_of interrupts_per_request) / $(stat_of exits_per_request)" 'BEGIN {
        printf "  %-28s mayfly bt %6.0f/s %5.0f MB/s  %s\n", c, (a > 0 ? n / a : 0), (a > 0 ? n * b / a / 1e6 : 0), x
        if (q > 0) printf "  %-28s QEMU TCG  %6.0f/s %5.0f MB/s  %s   %.2f times\n", "", n / q, n * b / q / 1e6, y, (a > 0 ? q / a : 0) }'
done
