#!/bin/bash
# shellcheck source=tests/lib.sh source=tests/net_lib.sh
# The load of smp.sh on 4 virtual CPUs with devices at work among it: a disk, a shared directory, a
# tap, entropy. What is computed, written and read again, or fetched, twice must come out the same,
# and as the host has it. LOAD=600 tests/smp_devices.sh prolongs it (seconds).
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net_lib.sh"
engine=${ENGINE:-bt} cpus=${CPUS:-4} load=${LOAD:-4}
vmlinuz=.cache/vmlinux
name="load with devices, $engine, $cpus CPUs, $load s"
needs_debian "$name" "$vmlinuz" .cache/root
needs_netns "$name"
make_tap tap0 10.77.0.1/24
mkdir -p "$tmp/www" "$tmp/share"
head -c 2000000 /dev/urandom >"$tmp/www/blob"
head -c 500 "$tmp/www/blob" >"$tmp/www/small"
cp "$tmp/www/blob" "$tmp/share/blob"
truncate -s 64M "$tmp/disk" && mke2fs -q -F -t ext4 "$tmp/disk"
background ip netns exec "$ns" busybox httpd -f -p 8080 -h "$tmp/www"
cat tests/smp_devices.guest tests/smp.guest | make_initrd "$tmp/initrd" "$net_modules fs/fuse/fuse fs/fuse/virtiofs
    char/hw_random/virtio-rng"
inside "$mayfly" run --engine "$engine" -c "$cpus" -m 512M --timeout $((300 + load * 2)) --stats="$tmp/stats" \
    --disk "$tmp/disk" --net tap=tap0 --share "$tmp/share" --rng --initrd "$tmp/initrd" $vmlinuz \
    console=ttyS0 panic=-1 reboot=t "t=$load" </dev/null >"$tmp/raw" 2>"$tmp/err"
status=$?
tr -d '\r' <"$tmp/raw" >"$tmp/out"
mkdir -p build/test
cat "$tmp/out" "$tmp/err" >"build/test/smp_devices.out"

is() { # WHAT GOT WANT
    if [ "$2" = "$3" ]; then ok "$name: $1"; else not_ok "$name: $1" "'$2', not '$3'; $(tail -n 1 "$tmp/err")"; fi
}
sum() { sha256sum | cut -d' ' -f1; }
blob=$(sum <"$tmp/www/blob")
small=$(for _ in $(seq 20); do cat "$tmp/www/small"; done | sum)
is "status" $status 0
for job in sort gzip fork pipe awk file plug disk share net pingpong rng; do
    # Both workers said it, and the same.
    is "$job" "$(grep -c "^T: $job " "$tmp/out") $(grep "^T: $job " "$tmp/out" | sort -u | wc -l)" "2 1"
done
is "disk's sums" "$(grep -m 1 '^T: disk ' "$tmp/out")" "T: disk $blob $blob"
is "share's sums" "$(grep -m 1 '^T: share ' "$tmp/out" | cut -d' ' -f1-3)" "T: share $blob"
is "net's sums" "$(grep -m 1 '^T: net ' "$tmp/out")" "T: net $blob"
is "ping-pong's sums" "$(grep -m 1 '^T: pingpong ' "$tmp/out")" "T: pingpong $small"
is "rng" "$(grep -m 1 '^T: rng ' "$tmp/out")" "T: rng 65536"
is "nothing differed" "$(grep -m 1 differs "$tmp/out")" ""
is "the kernel has nothing to say" "$(grep '^T: kernel' "$tmp/out")" "T: kernel 0"
is "its end" "$(grep '^T: done' "$tmp/out")" "T: done"
for i in 1 2; do is "share on the host, $i" "$(sum <"$tmp/share/d$i/b")" "$blob"; done
is "fsck" "$(e2fsck -fn "$tmp/disk" >/dev/null 2>&1 && echo clean)" clean
is "no ring broke" "$(python3 -c "import json; d=json.load(open('$tmp/stats')); print(sum(v.get('broken',0) for v in d.values() if isinstance(v,dict)))")" 0
echo "rounds: $(sed -n 's/^T: rounds //p' "$tmp/out")"
finish
