#!/bin/bash
# shellcheck source=tests/lib.sh source=tests/net_lib.sh
# virtio-net in Debian's guest: over a tap and over passt, each in a network namespace made here. No
# frame leaves it: the only addresses are its own.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net_lib.sh"
engine=${ENGINE:-bt}
vmlinuz=.cache/vmlinuz
size=104857600

# --- options: they are read before anything is opened ---------------------------------------------
refused 'net without a kind' 'tap=NAME or user' --net eth0
refused 'net tap without a name' 'interface name' --net tap=
refused 'net tap name too long' 'interface name' --net tap=abcdefghijklmnop
refused 'net tap that is not there' 'ip tuntap add' --net tap=mayflynone
refused 'net tap that is no tap' 'no tap\|not yours' --net tap=lo
refused 'net mac that is none' 'mac ' --net tap=lo,mac=00:11:22:33:44
refused 'net multicast mac' 'no station' --net tap=lo,mac=01:00:00:00:00:01
refused 'net tap option unknown' "knows no 'hostfwd" --net tap=lo,hostfwd=tcp::80-:80
refused 'net user option unknown' "knows no 'speed" --net user,speed=9
refused 'net hostfwd without a port' 'hostfwd' --net user,hostfwd=tcp:127.0.0.1-:80
refused 'net hostfwd port 70000' 'hostfwd' --net user,hostfwd=tcp:127.0.0.1:70000-:80
refused 'net hostfwd with more in it' 'hostfwd' --net 'user,hostfwd=tcp:127.0.0.1/1:80-:80'
refused 'net udp forward with restrict' 'no UDP' --net user,restrict,hostfwd=udp::53-:53

needs_netns net
# wrapped WRAPPER NAME PATTERN ARG…: the same with mayfly run by WRAPPER, words that may be split
wrapped() {
    # shellcheck disable=SC2206
    local mayfly_cmd=(timeout 20 $1 "$mayfly")
    refused "${@:2}"
}
inside_refused() { wrapped "ip netns exec $ns" "$@"; }
make_tap tap0 10.77.0.1/24
five=()
for i in 2 3 4 5 6; do
    make_tap tap$i 10.80.$i.1/24
    five+=(--net tap=tap$i)
done
inside_refused 'five nets' 'more than 4' "${five[@]}"
inside "$mayfly" run --engine "$engine" --timeout 20 --net tap=tap0 hello >/dev/null 2>&1 && ok 'net hello' ||
    not_ok 'net hello' 'a guest that knows no virtio'
needs_debian "net in Debian" "$vmlinuz"

mkdir -p "$tmp/www"
head -c $size /dev/urandom >"$tmp/www/blob"
want=$(sha256sum <"$tmp/www/blob" | cut -d' ' -f1)
background ip netns exec "$ns" busybox httpd -f -p 8080 -h "$tmp/www"
append="console=ttyS0 panic=-1 reboot=t"
# run NAME OPTION…: the guest of $tmp/initrd in the namespace; its lines in $tmp/text
run() {
    local name=$1
    shift
    inside "$mayfly" run --engine "$engine" -m 256M --timeout 200 --initrd "$tmp/initrd" "$@" \
        $vmlinuz $append </dev/null >"$tmp/out" 2>"$tmp/err"
    status=$?
    tr -d '\r' <"$tmp/out" >"$tmp/text"
    mkdir -p build/test
    cat "$tmp/text" "$tmp/err" >"build/test/${name// /-}.out"
    [ $status -eq 0 ] || not_ok "$name" "status $status; $(tail -n 1 "$tmp/err")"
}
has() { # NAME LINE: the guest said exactly this
    if grep -qx -- "$2" "$tmp/text"; then ok "$1"; else not_ok "$1" "no '$2'; $(grep -m1 "^${2%% *} ${2#* }" "$tmp/text")"; fi
}
json() { python3 -c "import json;d=json.load(open('$tmp/stats'));print($1)" 2>/dev/null; }

# --- tap -------------------------------------------------------------------------------------------
make_initrd "$tmp/initrd" "$net_modules" <<'I'
ip link set lo up; ip link set eth0 up; ip addr add 10.77.0.2/24 dev eth0
echo "T: mac $(cat /sys/class/net/eth0/address)"
echo "T: mtu $(cat /sys/class/net/eth0/mtu)"
echo "T: carrier $(cat /sys/class/net/eth0/carrier)"
ping -c 3 -W 5 10.77.0.1 >/dev/null && echo "T: ping"
echo "T: sha256 $(wget -q -O - http://10.77.0.1:8080/blob | sha256sum | cut -d' ' -f1)"
yes 0123456789abcdef | head -c 100000000 | nc 10.77.0.1 5001; echo "T: sent $?"
ip link set eth0 address 02:00:00:00:00:42 && ping -c 1 -W 5 10.77.0.1 >/dev/null && echo "T: new mac"
ip link set eth0 promisc on && ip link set eth0 promisc off && echo "T: promisc"
for i in 1 2 3; do
    echo virtio0 >/sys/bus/virtio/drivers/virtio_net/unbind
    echo virtio0 >/sys/bus/virtio/drivers/virtio_net/bind
done
ip link set eth0 up; ip addr add 10.77.0.2/24 dev eth0
ping -c 2 -W 5 10.77.0.1 >/dev/null && echo "T: after reset"
I
mkfifo "$tmp/never" # an input that does not end: nc would tell the guest at once
exec 9<>"$tmp/never"
ip netns exec "$ns" busybox nc -l -p 5001 >"$tmp/upload" <&9 &
pids+=($!)
run "net tap" --net tap=tap0,mac=02:00:00:00:00:41 --stats="$tmp/stats"
has 'net tap mac' 'T: mac 02:00:00:00:00:41'
has 'net tap mtu' 'T: mtu 1500'
has 'net tap carrier' 'T: carrier 1'
has 'net tap ping' 'T: ping'
has 'net tap 100 MiB' "T: sha256 $want"
if [ "$(yes 0123456789abcdef | head -c 100000000 | sha256sum)" = "$(sha256sum <"$tmp/upload")" ]; then
    ok 'net tap 100 MB to the host'
else
    not_ok 'net tap 100 MB to the host' "$(stat -c %s "$tmp/upload") bytes; $(grep 'T: sent' "$tmp/text")"
fi
has 'net tap address by the control queue' 'T: new mac'
has 'net tap receive mode' 'T: promisc'
has 'net tap after resets of the device' 'T: after reset'
# A packet is what goes over a wire; a frame, what a ring carries, holds up to 45 of them here.
cost=$(json "round(d['net0']['notifications_per_packet']+d['net0']['interrupts_per_packet'],3)")
echo "# net tap: notifications and interrupts: $cost a packet, $(json "round(d['net0']['notifications_per_frame']+d['net0']['interrupts_per_frame'],3)") a frame"
if awk "BEGIN { exit !(${cost:-9} <= 0.05) }"; then
    ok 'net tap: at most 0.05 notifications and interrupts a packet'
else
    not_ok 'net tap: at most 0.05 notifications and interrupts a packet' "$cost"
fi
inside ip link set tap0 mtu 9000
run "net tap mtu" --net tap=tap0
has 'net tap mtu 9000' 'T: mtu 9000'
has 'net tap mtu 9000, 100 MiB' "T: sha256 $want"

# The tap vanishes under a running guest: it loses its carrier and lives.
make_tap tap1 10.79.0.1/24
make_initrd "$tmp/initrd" "$net_modules" <<'I'
ip link set eth0 up; ip addr add 10.79.0.2/24 dev eth0; echo "T: ready"
n=0; while [ $n -lt 100 ] && [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do
    ping -c 1 -W 1 10.79.0.1 >/dev/null; sleep 0.1; n=$((n + 1)); done
echo "T: carrier $(cat /sys/class/net/eth0/carrier)"
I
(
    for _ in $(seq 100); do
        grep -q 'T: ready' "$tmp/out" 2>/dev/null && break
        sleep 0.1
    done
    inside ip link del tap1
) &
run "net tap gone" --net tap=tap1
has 'net tap gone: carrier lost' 'T: carrier 0'

# A tap that is open already.
ip netns exec "$ns" "$mayfly" run --engine "$engine" --net tap=tap0 --initrd "$tmp/initrd" $vmlinuz $append >"$tmp/busy.out" 2>&1 </dev/null &
busy=$!
pids+=($busy)
for _ in $(seq 50); do
    inside ip link show tap0 | grep -q LOWER_UP && break
    sleep 0.1
done
inside_refused 'net tap that is busy' 'is busy' --net tap=tap0
kill $busy 2>/dev/null
wait $busy 2>/dev/null

# --- user ------------------------------------------------------------------------------------------
if ! command -v passt >/dev/null; then
    refused 'net user without passt' 'apt-get install passt' --net user
    skipped "net user" "passt is not installed"
    finish
fi
wrapped '/usr/bin/env PATH=/nowhere' 'net user without passt' 'apt-get install passt' --net user
# passt gives the guest the address and the router of the namespace's own (dead) uplink.
make_tap up0 10.78.0.2/24
inside ip route add default via 10.78.0.1
cat >"$tmp/dhcp" <<'D'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
ip route add default via $router
echo "T: dhcp $ip router $router"
D
make_initrd "$tmp/initrd" "$net_modules" "$tmp/dhcp" <<'I'
ip link set lo up; ip link set eth0 up
udhcpc -i eth0 -n -q -s /bin/dhcp >/dev/null 2>&1 || echo "T: no lease"
udhcpc -i eth0 -n -q -s /bin/dhcp 2>/dev/null | grep T:
wget -T 3 -q -O /tmp/blob http://10.78.0.1:8080/small 2>/dev/null && echo "T: small $(cat /tmp/blob)" || echo "T: no small"
case $(cat /proc/cmdline) in *t=fetch*)
    echo "T: sha256 $(wget -q -O - http://10.78.0.1:8080/blob | sha256sum | cut -d' ' -f1)" ;;
esac
mkdir /www; echo "inside says hello" >/www/index.html; head -c 20000000 /dev/zero >/www/big
httpd -p 80 -h /www
nc -l -p 81 </dev/null >/dev/null & # the host says so when it has what it wants
while ! netstat -tln | grep -q ':81 '; do sleep 0.1; done
echo "T: serving"
wait $!
I
echo small >"$tmp/www/small"
# user NAME OPTION [APPEND]: boot, and fetch from it by hostfwd while it serves
user() {
    : >"$tmp/out"
    (
        for _ in $(seq 400); do
            grep -q 'T: serving' "$tmp/out" && break
            sleep 0.1
        done
        inside bash -c 'http_get 127.0.0.1 9090 /; http_get 127.0.0.1 9090 /big | sha256sum' \
            >"$tmp/got" 2>"$tmp/got.err"
        inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/9092' 2>>"$tmp/got.err"
    ) &
    local fetcher=$! old=$append
    append+=" ${3:-}"
    run "$1" --net "$2,hostfwd=tcp:127.0.0.1:9092-:81"
    append=$old
    wait $fetcher
}
export -f http_get
user 'net user' user,hostfwd=tcp:127.0.0.1:9090-:80 t=fetch
has 'net user dhcp' 'T: dhcp 10.78.0.2 router 10.78.0.1'
has 'net user 100 MiB from the host' "T: sha256 $want"
zeros=$(head -c 20000000 /dev/zero | sha256sum)
if [ "$(cat "$tmp/got")" = "inside says hello
$zeros" ]; then ok 'net user hostfwd'; else not_ok 'net user hostfwd' "$(head -c 200 "$tmp/got" "$tmp/got.err")"; fi
user 'net user restrict' user,restrict,hostfwd=tcp:127.0.0.1:9090-:80
has 'net user restrict: nothing is reached' 'T: no small'
if grep -q 'inside says hello' "$tmp/got"; then ok 'net user restrict: hostfwd'; else not_ok 'net user restrict: hostfwd' "$(head -c 200 "$tmp/got.err")"; fi
passt_ends() { # NAME
    for _ in $(seq 30); do
        pgrep -f 'passt .*127.0.0.1/9090:80' >/dev/null || break
        sleep 0.1
    done
    if pgrep -f 'passt .*127.0.0.1/9090:80' >/dev/null; then not_ok "$1" "it is still there"; else ok "$1"; fi
}
passt_ends 'net user: passt ends with the run'
ip netns exec "$ns" "$mayfly" run --engine "$engine" --net user,hostfwd=tcp:127.0.0.1:9090-:80 \
    --initrd "$tmp/initrd" $vmlinuz $append >/dev/null 2>&1 </dev/null &
victim=$!
for _ in $(seq 100); do
    pgrep -f 'passt .*127.0.0.1/9090:80' >/dev/null && break
    sleep 0.1
done
sleep 0.5
kill -9 $victim
wait $victim 2>/dev/null
passt_ends 'net user: passt ends with a killed run'
background ip netns exec "$ns" busybox httpd -f -p 127.0.0.1:9091 -h "$tmp/www"
sleep 0.3
inside_refused 'net user: host port in use' 'passt.*9091' --net user,hostfwd=tcp:127.0.0.1:9091-:80
finish
