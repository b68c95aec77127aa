#!/bin/bash
# shellcheck source=tests/lib.sh source=tests/net_lib.sh
# The network of programs: sockets over a tap and over passt, in a network namespace made here; no
# frame leaves it. The host's end is the same program, run there.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net_lib.sh"
engine=${ENGINE:-bt}
p=build/progs
mkdir -p $p

refused 'ip without its bits' 'ADDRESS/BITS' --net tap=lo,ip=10.0.0.2
refused 'ip with 33 bits' 'ADDRESS/BITS' --net tap=lo,ip=10.0.0.2/33
refused 'ip that is none' 'ADDRESS/BITS' --net tap=lo,ip=10.0.0/8
refused 'gw that is none' 'gw=10.0.0.1' --net user,ip=10.0.0.2/8,gw=router
refused 'dns without ip' 'go with an address' --net user,dns=10.0.0.1

if [ ! -s build/guests/runtime_net.elf ]; then
    skipped sockets "built without lwIP (guests/runtime/net/lwip.sh)"
    finish
fi
for name in sockets net; do
    for lib in musl glibc; do
        cc=gcc
        [ $lib = musl ] && cc=musl-gcc
        [ $p/$name.$lib -nt tests/progs/$name.c ] ||
            $cc -O1 -static -pthread -w -o $p/$name.$lib tests/progs/$name.c 2>"$tmp/err" ||
            not_ok "build $name.$lib" "$(grep -m1 error "$tmp/err")"
    done
done

timeout 20 "$mayfly" run --timeout 10 $p/net.musl serve 80 >"$tmp/out" 2>"$tmp/err" </dev/null
grep -c '^mayfly: net.musl: socket: no network here; run it with --net' "$tmp/err" >"$tmp/got"
if [ "$(cat "$tmp/got")" = 1 ]; then ok "no network: one line that says so"; else not_ok "no network: one line that says so" "$(head -c 300 "$tmp/err")"; fi

# --- the loopback: as on the host, line by line ------------------------------------------------------
as_on_the_host() { # NAME ENGINE
    timeout 60 $p/"$1" >"$tmp/want" 2>&1
    timeout 100 "$mayfly" run --engine "$2" --timeout 90 --net lo $p/"$1" >"$tmp/got" 2>"$tmp/err" </dev/null
    if cmp -s "$tmp/want" "$tmp/got"; then
        ok "$2 $1 as on the host"
    else
        not_ok "$2 $1 as on the host" "$(diff "$tmp/want" "$tmp/got" | head -n 4 | tr '\n' ';') $(head -n 1 "$tmp/err")"
    fi
}
for lib in musl glibc; do
    as_on_the_host sockets.$lib bt
    as_on_the_host sockets.$lib interp
done
case " $(engines) " in *kvm*) as_on_the_host sockets.musl kvm ;; *) skipped "kvm sockets.musl" "no /dev/kvm" ;; esac
if command -v rustc >/dev/null && rustc -O -C target-feature=+crt-static -o $p/net.rust tests/progs/net.rs 2>/dev/null; then
    as_on_the_host net.rust bt
else
    skipped net.rust "no rustc that links statically"
fi
if command -v go >/dev/null && CGO_ENABLED=0 GOCACHE=$root/build/gocache go build -o $p/net.go tests/progs/net.go 2>/dev/null; then
    as_on_the_host net.go bt
else
    skipped net.go "no go"
fi

needs_netns "sockets by tap and passt"
bb=$(command -v busybox)
make_tap tap0 10.77.0.1/24
net=tap=tap0,ip=10.77.0.2/24,gw=10.77.0.1,dns=10.77.0.1
host=10.77.0.1
# guest ARG…: a program in the namespace with --net $net
guest() { inside timeout 100 "$mayfly" run --engine "$engine" --timeout 90 --net "$net" "$@" </dev/null; }
# is NAME WANT: what stdin says
is() {
    local got
    got=$(cat)
    if [ "$got" = "$2" ]; then ok "$1"; else not_ok "$1" "'${got:0:200}', not '${2:0:200}'"; fi
}
# until_says FILE WORD
until_says() {
    for _ in $(seq 200); do
        grep -q "$2" "$1" 2>/dev/null && return
        sleep 0.05
    done
}

# --- tap -----------------------------------------------------------------------------------------------
size=104857600
mkdir -p "$tmp/www"
head -c $size /dev/urandom >"$tmp/www/blob"
want=$(sha256sum <"$tmp/www/blob")
background ip netns exec "$ns" busybox httpd -f -p 8080 -h "$tmp/www"
background ip netns exec "$ns" $p/net.glibc serve 7000 >"$tmp/serve"
background ip netns exec "$ns" $p/net.glibc dns 53
until_says "$tmp/serve" serving
guest "$bb" wget -q -O - http://$host:8080/blob 2>"$tmp/err" | sha256sum | is 'tap: wget of 100 MiB' "$want"
sink() { # the host's end of pour
    : >"$tmp/sink"
    inside $p/net.glibc sink 7001 >"$tmp/sink" 2>"$tmp/rate" &
    sinking=$!
    until_says "$tmp/sink" waiting
}
sink
guest $p/net.musl pour $host 7001 100000000 | is 'tap: 100 MB sent' 'poured 100000000'
wait $sinking
tail -n 1 "$tmp/sink" | is 'tap: they arrived' 'sank 100000000 bad 0'
echo "# tap: sent at $(cat "$tmp/rate")"
for lib in musl glibc; do
    guest $p/net.$lib each $host 7000 200 | is "tap: 200 connections, $lib" 'each 200 of 200'
    guest $p/net.$lib together $host 7000 50 | is "tap: 50 at once, $lib" 'together 50 of 50'
    guest $p/net.$lib datagrams $host 7000 300 | is "tap: datagrams, $lib" 'datagrams 300 of 300'
    guest $p/net.$lib burst $host 7000 100 | is "tap: datagrams before the neighbour is known, $lib" 'burst 100, back 100 of 100'
    guest $p/net.$lib lookup guest.test 2>/dev/null | is "tap: a name, $lib" 'guest.test: 10.1.2.3'
    guest $p/net.$lib lookup nobody.test 2>/dev/null | is "tap: no such name, $lib" 'nobody.test: no such name'
done
guest "$bb" nslookup guest.test | grep '^Address.*10.1.2' | is 'tap: busybox nslookup' 'Address: 10.1.2.3'
guest $p/net.musl connect $host 9 5000 | is 'tap: refused' 'Connection refused'
guest $p/net.musl connect 10.77.0.99 80 300 | is 'tap: nobody there' 'Operation in progress'
guest $p/net.musl connect 10.77.0.1 7000 5000 | is 'tap: connected' 'connected'
inside ip route add unreachable 10.99.0.0/16
inside sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
guest $p/net.musl connect 10.99.0.1 80 5000 | is 'tap: unreachable, by ICMP' 'Host is unreachable'
inside ip link set tap0 mtu 9000
guest "$bb" wget -q -O - http://$host:8080/blob 2>"$tmp/err" | sha256sum | is 'tap: mtu 9000' "$want"
inside ip link set tap0 mtu 1500

serving() { # PROGRAM: it serves in the background, as $server
    rm -f "$tmp/serving" # what the last one said is no sign of this one
    guest "$1" serve 80 >"$tmp/serving" 2>"$tmp/err" &
    server=$!
    until_says "$tmp/serving" serving
}
# A guest that serves: both C libraries, connections from the host.
for lib in musl glibc; do
    serving $p/net.$lib
    inside $p/net.glibc each 10.77.0.2 80 200 | is "tap: the guest serves 200, $lib" 'each 200 of 200'
    inside $p/net.glibc together 10.77.0.2 80 50 | is "tap: it serves 50 at once, $lib" 'together 50 of 50'
    inside $p/net.glibc datagrams 10.77.0.2 80 300 | is "tap: it echoes datagrams, $lib" 'datagrams 300 of 300'
    inside $p/net.glibc datagrams 10.77.0.2 80 0
    wait $server
    tail -n 1 "$tmp/serving" | is "tap: it ends, $lib" 'served 250'
done
guest "$bb" nc -l -p 81 >"$tmp/nc" 2>"$tmp/err" &
server=$!
sleep 0.5
echo 'to the guest' | inside timeout 10 "$bb" nc -w 3 10.77.0.2 81
wait $server
is 'tap: busybox nc listens' 'to the guest' <"$tmp/nc"

# Nobody answers DHCP here.
net=tap=tap0
guest "$bb" true 2>&1 | is 'tap: no DHCP' "mayfly: network: nobody answers DHCP; the program starts without an address: give ip=ADDRESS/BITS[,gw=ADDRESS][,dns=ADDRESS] with --net"

# --- user ----------------------------------------------------------------------------------------------
if ! command -v passt >/dev/null; then
    skipped "sockets by --net user" "passt is not installed"
    finish
fi
# passt gives the guest the address, router and name server of the namespace; the router's address
# stands for the host's loopback.
make_tap up0 10.78.0.2/24
inside ip route add default via 10.78.0.1
net=user
host=10.78.0.1
guest "$bb" ifconfig eth0 2>/dev/null | sed -n 's/.*inet addr:\([0-9.]*\).*/\1/p' | is 'user: address by DHCP' 10.78.0.2
guest "$bb" wget -q -O - http://$host:8080/blob 2>"$tmp/err" | sha256sum | is 'user: wget of 100 MiB' "$want"
sink
guest $p/net.musl pour $host 7001 100000000 | is 'user: 100 MB sent' 'poured 100000000'
wait $sinking
tail -n 1 "$tmp/sink" | is 'user: they arrived' 'sank 100000000 bad 0'
echo "# user: sent at $(cat "$tmp/rate")"
guest $p/net.glibc each $host 7000 200 | is 'user: 200 connections' 'each 200 of 200'
guest $p/net.glibc together $host 7000 50 | is 'user: 50 at once' 'together 50 of 50'
guest $p/net.musl datagrams $host 7000 300 | is 'user: datagrams' 'datagrams 300 of 300'
net=user,hostfwd=tcp:127.0.0.1:9090-:80,hostfwd=udp:127.0.0.1:9090-:80
serving $p/net.musl
inside $p/net.glibc each 127.0.0.1 9090 200 | is 'user: hostfwd, 200 connections' 'each 200 of 200'
inside $p/net.glibc together 127.0.0.1 9090 50 | is 'user: hostfwd, 50 at once' 'together 50 of 50'
inside $p/net.glibc datagrams 127.0.0.1 9090 100 | is 'user: hostfwd, datagrams' 'datagrams 100 of 100'
inside $p/net.glibc datagrams 127.0.0.1 9090 0
wait $server
tail -n 1 "$tmp/serving" | is 'user: the server ends' 'served 250'
inside ss -ltn | grep -c ':9090 ' | is 'user: hostfwd, the port is free after the end' 0
for i in 1 2 3 4; do guest "$bb" echo run $i; done | is 'user: hostfwd, one run after the other' 'run 1
run 2
run 3
run 4'
finish
