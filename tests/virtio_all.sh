#!/bin/bash
# shellcheck source=tests/lib.sh source=tests/net_lib.sh
# Every device at once in one guest of several CPUs, all busy at the same time. ENGINE and CPUS try
# others than bt and 4.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net_lib.sh"
engine=${ENGINE:-bt} cpus=${CPUS:-4}
vmlinuz=.cache/vmlinux
name="all devices, $engine, $cpus CPUs"
needs_debian "$name" "$vmlinuz" .cache/root
needs_netns "$name"
if ! musl-gcc -static -O2 -o "$tmp/vsock_echo" tests/vsock_echo.c ||
    ! gcc -D_GNU_SOURCE -O2 -o "$tmp/vsock_host" tests/vsock_host.c; then
    not_ok "$name" 'the vsock programs do not compile'
    finish
fi
make_tap tap0 10.77.0.1/24
mkdir -p "$tmp/www" "$tmp/share" "$tmp/tree"
head -c 4000000 /dev/urandom >"$tmp/www/blob"
cp "$tmp/www/blob" "$tmp/tree/blob"
cp "$tmp/www/blob" "$tmp/share/blob"
sum=$(sha256sum <"$tmp/www/blob" | cut -d' ' -f1)
truncate -s 48M "$tmp/disk" && mke2fs -q -F -t ext4 -d "$tmp/tree" "$tmp/disk"
background ip netns exec "$ns" busybox httpd -f -p 8080 -h "$tmp/www"
background "$tmp/vsock_host" serve "$tmp/v.sock_6000"
make_initrd "$tmp/initrd" "$net_modules $vsock_modules fs/fuse/fuse fs/fuse/virtiofs char/virtio_console
    char/hw_random/virtio-rng virtio/virtio_balloon" "$tmp/vsock_echo" <<'I'
echo "T: cpus $(grep -c ^processor /proc/cpuinfo)"
mkdir /disk /share
mount -t ext4 /dev/vda /disk && mount -t virtiofs share /share && echo "T: mounted"
ip link set lo up; ip link set eth0 up; ip addr add 10.77.0.2/24 dev eth0
sum() { sha256sum | cut -d' ' -f1; }
# What they have to say is put by: hvc0 would cut into it.
for i in 1 2 3; do
    (cp /disk/blob /disk/copy$i && echo 3 >/proc/sys/vm/drop_caches && echo "T: disk $(sum </disk/copy$i)" >/said.disk$i) &
    (cp /share/blob /share/copy$i && echo "T: share $(sum </share/copy$i)" >/said.share$i) &
    (echo "T: net $(wget -q -O - http://10.77.0.1:8080/blob | sum)" >/said.net$i) &
    vsock_echo send 6000 300000$i >/said.vsock$i 2>&1 &
    (seq 1 2000 | sed "s/^/hvc$i /" >/dev/hvc0) &
    (head -c 65536 /dev/hwrng | wc -c | sed 's/^/T: rng /' >/said.rng$i) &
    wait
done
sleep 1
cat /said.*
umount /disk /share
echo "T: done"
I
inside timeout 280 "$mayfly" run --engine "$engine" -c "$cpus" -m 256M --timeout 270 --stats="$tmp/stats" \
    --disk "$tmp/disk,direct" --net tap=tap0 --vsock "3,uds=$tmp/v.sock" --share "$tmp/share" --console --rng \
    --balloon --initrd "$tmp/initrd" $vmlinuz console=ttyS0 panic=-1 reboot=t quiet \
    </dev/null >"$tmp/out" 2>"$tmp/err"
status=$?
tr -d '\r' <"$tmp/out" >"$tmp/text"
mkdir -p build/test
cat "$tmp/text" "$tmp/err" >build/test/virtio_all.out
times() { # COUNT TEXT: it is in the output so often, wherever other output cut in
    local got
    got=$(grep -o -- "$2" "$tmp/text" | wc -l)
    if [ "$got" -eq "$1" ]; then ok "$name: $2"; else not_ok "$name: $2" "$got times, not $1; $(tail -n 1 "$tmp/err")"; fi
}
[ $status -eq 0 ] && ok "$name: status" || not_ok "$name: status" "$status; $(tail -n 1 "$tmp/err")"
times 1 "T: cpus $cpus"
times 1 "T: done"
for d in disk share net; do times 3 "T: $d $sum"; done
for i in 1 2 3; do times 1 "T: echo 6000: 300000$i of 300000$i bytes"; done
times 3 "T: rng 65536"
for i in 1 2 3; do
    got=$(grep -a -c "hvc$i [0-9]" "$tmp/text")
    [ "$got" -ge 1990 ] && ok "$name: hvc0, round $i" || not_ok "$name: hvc0, round $i" "$got lines"
    cmp -s "$tmp/share/copy$i" "$tmp/www/blob" && ok "$name: share on the host, copy $i" || not_ok "$name: share on the host, copy $i" "differs"
done
if e2fsck -fn "$tmp/disk" >/dev/null 2>&1; then ok "$name: fsck"; else not_ok "$name: fsck" "not clean"; fi
broken=$(python3 -c "import json; d=json.load(open('$tmp/stats')); print(sum(v.get('broken',0) for v in d.values() if isinstance(v,dict)))")
[ "$broken" = 0 ] && ok "$name: no ring broke" || not_ok "$name: no ring broke" "$broken"
finish
