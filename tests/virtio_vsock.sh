#!/bin/bash
# shellcheck source=tests/lib.sh source=tests/net_lib.sh
# virtio-vsock in Debian's guest: echo both ways, many connections, refusals, the socket's life.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net_lib.sh"
engine=${ENGINE:-bt}
vmlinuz=.cache/vmlinuz
append="console=ttyS0 panic=-1 reboot=t"
sock=$tmp/v.sock

refused 'vsock without a value' 'CID is a number' --vsock ''
refused 'vsock CID 2' 'reserved' --vsock "2,uds=$sock"
refused 'vsock CID 4294967295' 'reserved' --vsock "4294967295,uds=$sock"
refused 'vsock CID 18446744073709551619' 'reserved' --vsock "18446744073709551619,uds=$sock"
refused 'vsock CID is no number' 'number' --vsock "x,uds=$sock"
refused 'vsock without uds' 'socket is missing' --vsock 3
refused 'vsock with another word' 'socket is missing' --vsock "3,path=$sock"
refused 'vsock with an empty path' 'empty' --vsock 3,uds=
refused 'vsock with a long path' 'too long' --vsock "3,uds=/$(printf 'x%.0s' $(seq 110))"
refused 'vsock in a folder that is not there' 'No such file' --vsock "3,uds=$tmp/none/v.sock"
: >"$tmp/file"
refused 'vsock where a file is' 'no socket' --vsock "3,uds=$tmp/file"
[ -e "$tmp/file" ] && ok 'vsock leaves the file' || not_ok 'vsock leaves the file' gone
refused 'vsock twice' 'more than 1' --vsock "3,uds=$sock" --vsock "4,uds=$tmp/w.sock"
[ -e "$sock" ] && not_ok 'vsock removed after a refusal' 'still there' || ok 'vsock removed after a refusal'

mkdir -p build/test
if ! musl-gcc -static -O2 -o "$tmp/vsock_echo" tests/vsock_echo.c ||
    ! gcc -D_GNU_SOURCE -O2 -o "$tmp/vsock_host" tests/vsock_host.c; then
    not_ok 'vsock programs' 'they do not compile'
    finish
fi
host=$tmp/vsock_host
background "$host" serve "$sock"
for _ in $(seq 50); do
    [ -S "$sock" ] && break
    sleep 0.1
done
refused 'vsock path in use' 'in use' --vsock "3,uds=$sock"
kill "${pids[0]}"
wait "${pids[0]}" 2>/dev/null
if [ -S "$sock" ] && "$mayfly" run --engine "$engine" --vsock "3,uds=$sock" hello >/dev/null 2>&1; then
    ok 'vsock stale socket'
else
    not_ok 'vsock stale socket' 'it is in the way'
fi
[ -e "$sock" ] && not_ok 'vsock removed at the end' 'still there' || ok 'vsock removed at the end'

needs_debian "vsock in Debian" "$vmlinuz"
make_initrd "$tmp/initrd" "$vsock_modules" "$tmp/vsock_echo" <<'I'
vsock_echo refused 7000
vsock_echo send 6000 100
vsock_echo send 6000 20000000
vsock_echo send 6000 1 & vsock_echo send 6000 3000001 & vsock_echo send 6000 2000003
wait
# The device goes and comes back; the host sees its connections end.
vsock_echo serve 4000 & echo "T: before reset"; sleep 2
kill %1 2>/dev/null; kill $! 2>/dev/null
echo virtio0 >/sys/bus/virtio/drivers/vmw_vsock_virtio_transport/unbind
echo virtio0 >/sys/bus/virtio/drivers/vmw_vsock_virtio_transport/bind
vsock_echo serve 5000 &
echo "T: serving"
n=0; while [ $n -lt 300 ] && ! vsock_echo send 6001 1 >/dev/null 2>&1; do sleep 0.2; n=$((n + 1)); done
I
background "$host" serve "${sock}_6000"
"$mayfly" run --engine "$engine" -m 256M --timeout 120 --stats="$tmp/stats" --vsock "3,uds=$sock" \
    --initrd "$tmp/initrd" $vmlinuz $append >"$tmp/out" 2>"$tmp/err" </dev/null &
vm=$!
pids+=($vm)
await() {
    for _ in $(seq 600); do
        grep -q "$1" "$tmp/out" && return
        kill -0 $vm 2>/dev/null || return
        sleep 0.1
    done
}
says() { # NAME WANT COMMAND…
    local name=$1 want=$2 got
    shift 2
    got=$(timeout 60 "$@" 2>&1)
    if [ "$got" = "$want" ]; then ok "$name"; else not_ok "$name" "got '${got:0:200}', not '$want'"; fi
}
await 'T: before reset'
sleep 0.3
says 'vsock from the host, before a reset' '5000 of 5000 bytes' "$host" send "$sock" 4000 5000
await 'T: serving'
sleep 0.3
says 'vsock from the host' '10 of 10 bytes' "$host" send "$sock" 5000 10
says 'vsock from the host, 20 MB' '20000000 of 20000000 bytes' "$host" send "$sock" 5000 20000000
says 'vsock port nobody serves' 'closed' "$host" line "$sock" 'CONNECT 5001'
says 'vsock line that is none' 'closed' "$host" line "$sock" 'HELLO'
says 'vsock port too large' 'closed' "$host" line "$sock" 'CONNECT 4294967296'
says 'vsock line without an end' 'closed' "$host" line "$sock" 'CONNECT 000000000000000000000000000000000000000001'
says 'vsock 300 connections at a time' '300 of 300' "$host" many "$sock" 5000 300
says 'vsock again' '1000000 of 1000000 bytes' "$host" send "$sock" 5000 1000000
background "$host" serve "${sock}_6001"
wait $vm
status=$?
tr -d '\r' <"$tmp/out" >"$tmp/text"
cat "$tmp/text" "$tmp/err" >build/test/virtio_vsock.out
[ $status -eq 0 ] && ok 'vsock guest ends' || not_ok 'vsock guest ends' "status $status, $(tail -n 1 "$tmp/err")"
for line in 'refused 7000: Connection reset by peer' 'echo 6000: 100 of 100 bytes' \
    'echo 6000: 20000000 of 20000000 bytes' 'echo 6000: 1 of 1 bytes' \
    'echo 6000: 3000001 of 3000001 bytes' 'echo 6000: 2000003 of 2000003 bytes'; do
    if grep -qx "T: $line" "$tmp/text"; then ok "vsock guest: $line"; else not_ok "vsock guest: $line" 'not said'; fi
done
[ -e "$sock" ] && not_ok 'vsock removed after the guest' 'still there' || ok 'vsock removed after the guest'
finish
