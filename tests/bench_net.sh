#!/bin/bash
# shellcheck source=tests/lib.sh source=tests/net_lib.sh
# virtio-net over a tap, TCP each way, beside QEMU's TCG with the same kernel, initrd and namespace;
# and what it costs in notifications and interrupts. MIB sets how much is moved.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net_lib.sh"
mib=${MIB:-1024}
vmlinuz=.cache/vmlinuz
mac=02:00:00:00:00:50 # one for both: the host remembers it
append="console=ttyS0 panic=-1 reboot=t"
why=$(no_netns)
[ -s $vmlinuz ] || why="no kernel in .cache"
if [ -n "$why" ]; then
    echo "net: skipped: $why"
    finish
fi
make_tap tap0 10.77.0.1/24
mkdir "$tmp/www"
truncate -s "${mib}M" "$tmp/www/blob"
background ip netns exec "$ns" busybox httpd -f -p 8080 -h "$tmp/www"
pci="virtio/virtio_pci_legacy_dev virtio/virtio_pci_modern_dev virtio/virtio_pci"
make_initrd "$tmp/initrd" "$pci $net_modules" <<I
size=${mib}M
mount -t tmpfs tmpfs /tmp
ip link set lo up; ip link set eth0 up; ip addr add 10.77.0.2/24 dev eth0
case \$(cat /proc/cmdline) in
*t=rx*)
    wget -q -O /dev/null http://10.77.0.1:8080/small; a=\$(cut -d' ' -f1 /proc/uptime)
    wget -q -O /dev/null http://10.77.0.1:8080/blob; echo "T: seconds \$a \$(cut -d' ' -f1 /proc/uptime)" ;;
*t=tx*)
    mkdir /tmp/www; truncate -s "\$size" /tmp/www/blob; httpd -p 80 -h /tmp/www
    echo "T: serving"; sleep 100 ;;
esac
I
echo small >"$tmp/www/small"

# vm WAY: the command of $who
vm() {
    if [ "$who" = mayfly ]; then
        inside timeout -k 2 150 "$mayfly" run --engine bt -m 256M --stats="$tmp/stats.$1" --net tap=tap0,mac="$mac" \
            --initrd "$tmp/initrd" $vmlinuz $append "t=$1"
    else
        inside timeout -k 2 150 qemu-system-x86_64 -M q35 -accel tcg,thread=single -cpu max -nodefaults \
            -display none -serial stdio -m 256M -no-reboot -kernel $vmlinuz -initrd "$tmp/initrd" \
            -append "$append t=$1" -netdev tap,id=n,ifname=tap0,script=no,downscript=no \
            -device virtio-net-pci,netdev=n,mac="$mac" $trace
    fi
}
rate() { # SECONDS: Gb/s
    awk -v s="$1" -v m="$mib" 'BEGIN { printf "%.2f", (s > 0) ? m * 8.388608 / 1000 / s : 0 }'
}
export -f http_get
fetch() { # WAY: wait until the guest has (rx), or fetch from it
    for _ in $(seq 600); do
        grep -q 'T: se' "$tmp/out" && break
        sleep 0.1
    done
    [ "$1" = rx ] && return
    sleep 0.5
    start=$(date +%s.%N)
    got=$(inside bash -c 'http_get 10.77.0.2 80 /blob | wc -c')
    end=$(date +%s.%N)
}
measure() { # who
    who=$1
    vm rx >"$tmp/out" 2>&1 </dev/null
    rx=$(tr -d '\r' <"$tmp/out" | awk '/T: seconds/ { print $4 - $3 }')
    : >"$tmp/out"
    vm tx >"$tmp/out" 2>&1 </dev/null &
    local p=$! start end
    fetch tx
    tx=$(awk -v a="$start" -v b="$end" 'BEGIN { print b - a }')
    [ "$got" = $((mib << 20)) ] || tx=0
    inside pkill -TERM -P "$p" 2>/dev/null
    wait "$p" 2>/dev/null
    printf '  %-10s into the guest %6s Gb/s   out of it %6s Gb/s\n' "$who" "$(rate "${rx:-0}")" "$(rate "$tx")"
}
echo "net: $mib MiB by TCP over a tap, load $(cut -d' ' -f1 /proc/loadavg)"
trace=
measure mayfly
mrx=$rx mtx=$tx
for way in rx tx; do
    python3 - "$tmp/stats.$way" "$way" <<'P'
import json, sys
try:
    n = json.load(open(sys.argv[1]))["net0"]
except (OSError, KeyError, ValueError):
    sys.exit()
cost = n["notifications"] + n["interrupts"]
print("  mayfly %s: %d notifications, %d interrupts: %.4f a packet (%d), %.3f a frame (%d)" % (
      "into" if sys.argv[2] == "rx" else "out ", n["notifications"], n["interrupts"],
      cost / max(1, n["packets"]), n["packets"], cost / max(1, n["frames"]), n["frames"]))
P
done
if command -v qemu-system-x86_64 >/dev/null; then
    measure qemu
    qrx=$rx qtx=$tx
    # What it traces, in runs of their own; a packet is 1448 bytes, as it is with mayfly.
    for way in rx tx; do
        trace="-trace virtio_queue_notify -trace virtio_notify -trace virtio_notify_irqfd -D $tmp/trace.$way"
        : >"$tmp/out"
        vm $way >"$tmp/out" 2>&1 </dev/null &
        p=$!
        fetch $way
        inside pkill -TERM -P "$p" 2>/dev/null
        wait "$p" 2>/dev/null
        awk -v w=$way -v n=$((mib * 1048576 / 1448)) '/^virtio_queue_notify/ { a++ } /^virtio_notify/ { b++ }
            END { printf "  qemu %s: %d notifications, %d interrupts: %.4f a packet\n", w == "rx" ? "into" : "out ", a, b, (a + b) / n }' "$tmp/trace.$way"
    done
    awk -v a="${qrx:-0}" -v b="${mrx:-0}" -v c="$qtx" -v d="$mtx" 'BEGIN {
        printf "  mayfly / QEMU                   %9.2f times              %9.2f times\n",
            (b > 0) ? a / b : 0, (d > 0) ? c / d : 0 }'
fi
finish
