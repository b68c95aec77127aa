#!/bin/bash
# The example guests of guests/ and what of the runtime they stand on: disks.
# shellcheck source=tests/lib.sh source=tests/net_lib.sh
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net_lib.sh"
g=build/guests p=build/progs
mkdir -p $p

# --- disks of the runtime: /dev/vda as a file of the host is ---------------------------------------
musl-gcc -O1 -static -o $p/disk tests/progs/disk.c || not_ok "build disk" ""
for engine in $(engines); do
    head -c 99840 /dev/urandom >"$tmp/disk"
    cp "$tmp/disk" "$tmp/file"
    $p/disk "$tmp/file" 7 >"$tmp/want"
    "$mayfly" run --engine $engine --timeout 60 --disk "$tmp/disk" $p/disk /dev/vda 7 >"$tmp/out" 2>"$tmp/err"
    got=$?
    if [ $got -eq 0 ] && cmp -s "$tmp/want" "$tmp/out" && cmp -s "$tmp/disk" "$tmp/file"; then
        ok "$engine disk: as a file is"
    else
        not_ok "$engine disk: as a file is" "status $got: $(head -n 3 "$tmp/out" "$tmp/err")"
    fi
done
case " $(engines) " in *kvm*) ;; *) skipped "kvm: disk, share, vsock" "no /dev/kvm" ;; esac
# --- a shared directory, on every engine -----------------------------------------------------------
for engine in $(engines); do
    rm -rf "${tmp:?}/dir" && mkdir "$tmp/dir" && echo 'of the host' >"$tmp/dir/in"
    "$mayfly" run --engine $engine --timeout 60 --share "$tmp/dir:/d" /bin/busybox sh -c \
        'read x </d/in; echo "read: $x"; echo "of the guest" >/d/out; exit 5' >"$tmp/out" 2>"$tmp/err"
    got=$?
    if [ $got -eq 5 ] && [ "$(cat "$tmp/out" "$tmp/dir/out")" = "read: of the host
of the guest" ]; then ok "$engine share"; else not_ok "$engine share" "status $got: $(head -c 300 "$tmp/out" "$tmp/err")"; fi
done
truncate -s 512 "$tmp/small"
"$mayfly" run --timeout 20 --disk "$tmp/small" --disk "$tmp/disk,ro" /bin/busybox sha256sum /dev/vda /dev/vdb >"$tmp/out" 2>"$tmp/err"
if [ "$(cut -d ' ' -f 1 "$tmp/out")" = "$(sha256sum <"$tmp/small" | cut -d ' ' -f 1)
$(sha256sum <"$tmp/disk" | cut -d ' ' -f 1)" ]; then ok "two disks"; else not_ok "two disks" "$(head -c 300 "$tmp/out" "$tmp/err")"; fi
"$mayfly" run --timeout 20 --disk "$tmp/disk,ro" /bin/busybox dd if=/dev/zero of=/dev/vda count=1 conv=notrunc >"$tmp/out" 2>"$tmp/err"
got=$?
if [ $got -eq 1 ] && grep -q 'not permitted' "$tmp/err" && cmp -s "$tmp/disk" "$tmp/file"; then ok "a read-only disk"; else not_ok "a read-only disk" "status $got: $(cat "$tmp/err")"; fi

# --- kv ---------------------------------------------------------------------------------------------
disk=$tmp/kv.disk
kv() { "$mayfly" run --timeout 60 --disk "$disk" "$@" $g/kv /dev/vda 2>"$tmp/err"; }
fresh() {
    rm -f "$disk"
    truncate -s "$1" "$disk"
}

# The same lines, on the host and in the machine, cut in runs; 256 KiB fill up some times.
for i in $(seq 1 1200); do
    case $((i % 7)) in
    3) echo "delete key$((i % 41))" ;;
    5) echo "get key$((i % 37))" ;;
    *) printf 'put key%d value %d of %0*d\n' $((i % 41)) $i $((i % 900)) $i ;;
    esac
done >"$tmp/lines"
echo list >>"$tmp/lines"
truncate -s 256K "$tmp/kv.file"
fresh 256K
for from in 1 401 801; do
    sed -n "$from,$((from + 400))p" "$tmp/lines" | $g/kv "$tmp/kv.file" 2>/dev/null
done >"$tmp/want"
for from in 1 401 801; do
    sed -n "$from,$((from + 400))p" "$tmp/lines" | kv
done >"$tmp/out"
if cmp -s "$tmp/want" "$tmp/out" && grep -q '^ok [1-9]' "$tmp/out" && ! grep -q error "$tmp/out"; then
    ok "kv: as on the host"
else
    not_ok "kv: as on the host" "$(diff "$tmp/want" "$tmp/out" | head -n 3) $(grep -m 1 error "$tmp/out")"
fi
if [ "$(echo list | $g/kv "$disk" 2>/dev/null)" = "$(echo list | kv)" ]; then ok "kv: the host reads its disk"; else not_ok "kv: the host reads its disk" ""; fi

# What was acknowledged survives kill -9: puts go on until the kill; then each acknowledged one must
# be there, and perhaps some whose answer was still under way.
fresh 256K
lost=
acked=0
for round in 1 2 3 4 5 6; do
    : >"$tmp/acks"
    "$mayfly" run --timeout 60 --disk "$disk" $g/kv /dev/vda >"$tmp/acks" 2>"$tmp/err" \
        < <(n=$acked; while echo "put last $((++n)) $(printf %0$((n % 300))d 0)" 2>/dev/null; do :; done) &
    pid=$!
    for _ in $(seq 100); do # some first
        [ "$(wc -l <"$tmp/acks")" -gt $((20 * round)) ] && break
        sleep 0.02
    done
    kill -9 $pid
    wait $pid 2>/dev/null
    acked=$((acked + $(grep -c '^ok$' "$tmp/acks")))
    last=$(echo 'get last' | kv | cut -d ' ' -f 2)
    if ! [ "$last" -ge $acked ] || [ "$last" -gt $((acked + 1000)) ]; then
        lost="round $round: $acked acknowledged, $last there"
        break
    fi
    acked=$last
done 2>/dev/null
if [ -z "$lost" ] && [ $acked -gt 100 ]; then ok "kv: acknowledged puts survive kill -9"; else not_ok "kv: acknowledged puts survive kill -9" "$lost (in all $acked)"; fi

# A log with a damaged end: what is before it stays, what comes next is kept.
fresh 256K
printf 'put a 1\nput b 2\nput c 3333333\n' | kv >/dev/null
at=$(grep -abo 3333333 "$disk" | head -n 1 | cut -d : -f 1)
printf X | dd of="$disk" bs=1 seek=$((at + 3)) conv=notrunc status=none
printf 'list\nput d 4\n' | kv >"$tmp/out"
printf 'list\nget d\n' | kv >>"$tmp/out"
if [ "$(tr '\n' ' ' <"$tmp/out")" = "key a key b ok 2 ok key a key b key d ok 3 value 4 " ]; then ok "kv: a torn record ends the log"; else not_ok "kv: a torn record ends the log" "$(tr '\n' ' ' <"$tmp/out")"; fi

# Full, and room again.
fresh 64K
{ for i in $(seq 1 40); do echo "put k$i $(printf %01000d $i)"; done; for i in $(seq 1 40); do echo "delete k$i"; done; echo 'put again 1'; echo list; } | kv >"$tmp/out"
if grep -q '^error: the store is full$' "$tmp/out" && [ "$(tail -n 3 "$tmp/out" | tr '\n' ' ')" = "ok key again ok 1 " ]; then ok "kv: full"; else not_ok "kv: full" "$(tail -n 3 "$tmp/out")"; fi

refuses() { # NAME PATTERN: kv says so in one line, status 1
    kv </dev/null >"$tmp/out"
    local got=$?
    if [ $got -eq 1 ] && grep -q "$2" "$tmp/err" && [ "$(wc -l <"$tmp/err")" -eq 1 ]; then ok "kv: $1"; else not_ok "kv: $1" "status $got: $(cat "$tmp/err")"; fi
}
fresh 4K
refuses "a small disk" 'too small'
head -c 70144 /dev/urandom >"$disk"
refuses "a disk with something else" 'something else'
if [ "$(echo list | "$mayfly" run --timeout 60 --disk "$disk" $g/kv --format /dev/vda 2>/dev/null)" = "ok 0" ]; then ok "kv: --format"; else not_ok "kv: --format" ""; fi
"$mayfly" run --timeout 20 $g/kv /dev/vda </dev/null >"$tmp/out" 2>"$tmp/err"
if [ $? -eq 1 ] && grep -q 'No such file' "$tmp/err"; then ok "kv: no disk"; else not_ok "kv: no disk" "$(cat "$tmp/err")"; fi

# --- function ----------------------------------------------------------------------------------------
respond() { # STATUS REQUEST ANSWER
    local got
    printf '%s' "$2" | "$mayfly" run --timeout 60 $g/function >"$tmp/out" 2>"$tmp/err"
    got=$?
    if [ $got -eq "$1" ] && [ "$(cat "$tmp/out")" = "$3" ]; then ok "function: $2"; else not_ok "function: $2" "status $got: $(cat "$tmp/out")"; fi
}
respond 0 '{"name":"you","numbers":[1,2.5,-3]}' '{"count":3,"sum":0.5,"max":2.5,"greeting":"hello, you"}'
respond 1 '{"numbers":["a"]}' '{"error":"numbers is no array of numbers"}'
respond 1 '{"name":' "{\"error\":\"no JSON: unexpected token near end of file\"}"
(for i in 1 2 3; do echo "{\"name\":\"$i\"}"; sleep 0.05; done; printf nonsense) | "$mayfly" run --timeout 60 $g/function --loop >"$tmp/out"
if [ "$(tr '\n' ' ' <"$tmp/out")" = '{"greeting":"hello, 1"} {"greeting":"hello, 2"} {"greeting":"hello, 3"} {"error":"no JSON: '"'[' or '{' expected near 'nonsense'"'"} ' ]; then
    ok "function --loop"
else
    not_ok "function --loop" "$(cat "$tmp/out")"
fi

# --- servers: http-echo, kv --listen -----------------------------------------------------------------
# The client's side: $via before its command, the server's $address and $port.
via='' address=127.0.0.1 port=$((20000 + RANDOM % 10000))
bb=$(command -v busybox)
client() { $via "$bb" nc "$@" $address $port; }
# up NAME COMMAND…: in the background, $server, until it answers.
up() {
    local name=$1
    shift
    "$@" >"$tmp/server.out" 2>"$tmp/server.err" </dev/null &
    server=$!
    for _ in $(seq 100); do
        client -w 1 </dev/null >/dev/null 2>&1 && return
        sleep 0.05
    done
    not_ok "$name" "nobody on port $port: $(head -n 2 "$tmp/server.err")"
}
down() {
    kill $server 2>/dev/null
    wait $server 2>/dev/null
}
crlf() { sed 's/$/\r/'; }

# Three requests in one go, two of them with bodies; one in small pieces; no request at all.
http_echo() { # NAME COMMAND…
    local name=$1
    up "$@"
    printf 'GET /a?b HTTP/1.1\nHost: x\n\nPOST /c HTTP/1.1\nContent-Length: 4\n\nbodyPUT /d HTTP/1.1\nTransfer-Encoding: chunked\nConnection: close\n\n5\nfirst\n7\n second\n0\n\n' |
        crlf | sed 's/^body\r$/body/' | client | tr -d '\r' >"$tmp/out"
    printf '%s\n' 'HTTP/1.1 200 OK' 'Content-Type: text/plain' 'Content-Length: 18' '' 'GET /a?b' 'Host: x' '' \
        'HTTP/1.1 200 OK' 'Content-Type: text/plain' 'Content-Length: 31' '' 'POST /c' 'Content-Length: 4' '' \
        'bodyHTTP/1.1 200 OK' 'Content-Type: text/plain' 'Content-Length: 65' 'Connection: close' '' \
        'PUT /d' 'Transfer-Encoding: chunked' 'Connection: close' '' >"$tmp/want"
    printf 'first second' >>"$tmp/want"
    if cmp -s "$tmp/want" "$tmp/out"; then ok "$name: three requests"; else not_ok "$name: three requests" "$(diff "$tmp/want" "$tmp/out" | head -n 4)"; fi
    (printf 'PO'; sleep 0.1; printf 'ST / HTTP/1.0\r\nContent-Le'; sleep 0.1; printf 'ngth: 3\r\n\r\nx'; sleep 0.1; printf yz) |
        client | tail -c 3 >"$tmp/out"
    if [ "$(cat "$tmp/out")" = xyz ]; then ok "$name: in pieces"; else not_ok "$name: in pieces" "$(cat "$tmp/out")"; fi
    printf 'nothing of the kind\r\n\r\n' | client | head -n 1 >"$tmp/out"
    if grep -q '^HTTP/1.1 400 ' "$tmp/out"; then ok "$name: no request"; else not_ok "$name: no request" "$(cat "$tmp/out")"; fi
    # 20 at a time, half a megabyte each way.
    head -c 500000 /dev/urandom >"$tmp/body"
    local pids=() good=0
    for i in $(seq 20); do
        (printf 'POST /%d HTTP/1.1\r\nContent-Length: 500000\r\nConnection: close\r\n\r\n' "$i"; cat "$tmp/body") |
            client | tail -c 500000 | cmp -s - "$tmp/body" &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i" && good=$((good + 1)); done
    if [ $good -eq 20 ]; then ok "$name: 20 connections"; else not_ok "$name: 20 connections" "$good were right"; fi
    down
}
kv_listen() { # NAME COMMAND…
    local name=$1
    up "$@"
    printf 'put a 1\nput b two words\nget a\n' | client >"$tmp/out"
    printf 'get b\nlist\n' | client >>"$tmp/out"
    down
    if [ "$(tr '\n' ' ' <"$tmp/out")" = "ok ok value 1 value two words key a key b ok 2 " ]; then ok "$name"; else not_ok "$name" "$(cat "$tmp/out")"; fi
}
http_echo "http-echo on the host" $g/http-echo $port
fresh 64K
kv_listen "kv --listen on the host" $g/kv --listen $port "$disk"

# The same in the machine, over a tap in a network namespace made here.
if [ ! -s build/guests/runtime_net.elf ]; then
    skipped "servers and vsock in the machine" "built without lwIP (guests/runtime/net/lwip.sh)"
    finish
fi
why=$(no_netns)
if [ -z "$why" ]; then
    make_tap tap0 10.78.0.1/24
    machine() { exec ip netns exec "$ns" "$mayfly" run --timeout 60 --net tap=tap0,ip=10.78.0.2/24 "$@"; }
    via=inside address=10.78.0.2 port=80
    http_echo http-echo machine $g/http-echo 80
    fresh 64K
    kv_listen "kv --listen" machine --disk "$disk" $g/kv --listen 80 /dev/vda
else
    skipped "servers in the machine" "$why"
fi

# --- vsock --------------------------------------------------------------------------------------------
sock=$tmp/v.sock
{ musl-gcc -static -O2 -o "$tmp/vsock_echo" tests/vsock_echo.c && gcc -D_GNU_SOURCE -O2 -o "$tmp/vsock_host" tests/vsock_host.c; } ||
    not_ok "build the vsock programs" ""
vsock() { exec "$mayfly" run --timeout 60 --engine $engine --vsock 3,uds="$sock" "$@" </dev/null; }
says() { # NAME WANT COMMAND…
    local name=$1 want=$2 got
    shift 2
    got=$("$@" 2>&1)
    if [ "$got" = "$want" ]; then ok "$name"; else not_ok "$name" "$got"; fi
}
serving() { # COMMAND… that execs: in the background, $server; its socket is there
    "$@" 2>"$tmp/err" &
    server=$!
    for _ in $(seq 100); do
        [ -S "$sock" ] && break
        sleep 0.05
    done
}
host=$tmp/vsock_host
for engine in $(engines); do
    most=3000000
    [ $engine = bt ] || most=100000
    serving vsock "$tmp/vsock_echo" serve 5000
    for _ in $(seq 100); do # it listens
        [ "$("$host" send "$sock" 5000 1 2>/dev/null)" = "1 of 1 bytes" ] && break
        sleep 0.05
    done
    says "$engine vsock: there and back" "$most of $most bytes" "$host" send "$sock" 5000 $most
    says "$engine vsock: 60 connections" "60 of 60" "$host" many "$sock" 5000 60
    says "$engine vsock: nobody listens" closed "$host" line "$sock" "CONNECT 5001"
    "$host" send "$sock" 5000 $most >"$tmp/one" & one=$!
    "$host" send "$sock" 5000 $((most / 3)) >"$tmp/two" & two=$!
    wait $one $two
    says "$engine vsock: two at once" "$most of $most bytes $((most / 3)) of $((most / 3)) bytes" echo $(cat "$tmp/one" "$tmp/two")
    down
    rm -f "$sock"
    "$host" serve "${sock}_6000" & pids+=($!)
    until [ -S "${sock}_6000" ]; do sleep 0.05; done
    says "$engine vsock: to the host" "T: echo 6000: $most of $most bytes" vsock "$tmp/vsock_echo" send 6000 $most
    says "$engine vsock: nobody on the host" "T: refused 6001: Connection reset by peer" vsock "$tmp/vsock_echo" refused 6001
    kill "${pids[-1]}"
    wait "${pids[-1]}" 2>/dev/null
    rm -f "${sock}_6000"
done
engine=bt
serving vsock $g/function --vsock 5000 3
ask() { # NAME REQUEST WANT, when it listens
    local got
    for _ in $(seq 100); do
        got=$("$host" ask "$sock" 5000 "$2" 2>/dev/null) && break
        sleep 0.05
    done
    if [ "$got" = "$3" ]; then ok "$1"; else not_ok "$1" "$got"; fi
}
ask "function --vsock" '{"name":"you"}' '{"greeting":"hello, you"}'
ask "function --vsock, again" '{"numbers":[1,2]}' '{"count":2,"sum":3.0,"max":2.0}'
ask "function --vsock, an error" 'x' "{\"error\":\"no JSON: '[' or '{' expected near 'x'\"}"
wait $server
got=$?
if [ $got -eq 0 ]; then ok "function --vsock ends after its requests"; else not_ok "function --vsock ends after its requests" "status $got $(cat "$tmp/err")"; fi
for _ in 1 2 3; do # the kernel keeps a killed run's socket for a while
    serving vsock $g/function --vsock 5000
    until "$host" ask "$sock" 5000 '{}' >"$tmp/out" 2>&1; do sleep 0.05; done
    kill -9 $server
    wait $server 2>/dev/null
    says "vsock: again at once after kill -9" "hello, world" vsock hello
done
finish
