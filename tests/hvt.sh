#!/bin/bash
# Solo5's hvt interface with our own guest (guests/hvt), on each engine: what the interface promises,
# refusals, and what a hostile guest may try.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/net_lib.sh
. "$(dirname "$0")/net_lib.sh"
g=build/guests
kvm=$("$mayfly" check 2>/dev/null | sed -n 's/^kvm *\([a-z]*\).*/\1/p')
gcc -D_GNU_SOURCE -O2 -o "$tmp/peer" tests/hvt_peer.c || exit 1

# case_of NAME WANT_STATUS PATTERN COMMAND…: stdout or stderr has a line with the pattern, and no FAIL.
case_of() {
    local name=$1 want=$2 pattern=$3 got
    shift 3
    timeout 100 "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    if [ $got -ne "$want" ]; then
        not_ok "$name" "status $got, not $want: $(grep -m 3 -a ^FAIL "$tmp/out" | tr '\n' ';') $(head -n 2 "$tmp/err")"
    elif grep -qa ^FAIL "$tmp/out"; then
        not_ok "$name" "$(grep -m 1 -a ^FAIL "$tmp/out")"
    elif [ -n "$pattern" ] && ! grep -qa -- "$pattern" "$tmp/out" "$tmp/err"; then
        not_ok "$name" "no line '$pattern': $(head -n 2 "$tmp/err")"
    else
        ok "$name"
    fi
}
# run NAME WANT_STATUS PATTERN ARG…: by mayfly run; hvt …: by mayfly hvt.
run() {
    local name="$engine $1" want=$2 pattern=$3
    shift 3
    case_of "$name" "$want" "$pattern" "$mayfly" run --engine "$engine" --timeout 60 "$@"
}
hvt() {
    local name="$engine hvt $1" want=$2 pattern=$3
    shift 3
    case_of "$name" "$want" "$pattern" "$mayfly" hvt --engine="$engine" "$@"
}
same() { # NAME WANT GOT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "'$3', not '$2'"; fi
}
disk() { truncate -s 0 "$tmp/$1" && truncate -s "$2" "$tmp/$1"; }

for engine in interp bt kvm; do
    if [ $engine = kvm ] && [ "${kvm:-none}" != software ] && [ "${kvm:-none}" != hardware ]; then
        skipped "kvm" "no /dev/kvm"
        continue
    fi
    run 'command line' 0 '^one  two  three$' $g/hvt_plain say one ' two ' three
    run 'status' 37 '' $g/hvt_plain exit 37
    run 'status is a byte' 44 '' $g/hvt_plain exit 300
    run 'layout' 0 '^ok the last pages' $g/hvt_plain layout
    run 'layout, 2M' 0 '^ok the last pages' -m 2M $g/hvt_plain layout
    run 'layout, 3G' 0 '^ok the last pages' -m 3G $g/hvt_plain layout
    run 'memory in whole 2 MiB' 0 '^4194304$' -m 5M $g/hvt_plain memory
    run 'clock' 0 '^ok slept 1.5 us' $g/hvt_plain clock
    run 'much output' 0 '^line 4999 of many' $g/hvt_plain much
    hvt '512 MiB by default' 0 '^536870912$' $g/hvt_plain memory
    hvt '--mem' 0 '^33554432$' --mem=32 -- $g/hvt_plain memory
    hvt 'its own status' 127 '' $g/hvt_plain exit 127

    # Below 64 KiB nothing is mapped, below 1 MiB nothing is writable, the end is the end.
    run 'null pointer' 255 '^trap 14, error 0, rip .*, cr2 8$' $g/hvt_plain null
    run 'page tables' 255 '^trap 14, error 0, rip .*, cr2 2000$' $g/hvt_plain page-tables
    run 'low memory is read-only' 255 '^trap 14, error 3, rip .*, cr2 10000$' $g/hvt_plain write-low
    run 'end of memory' 255 '^trap 14, error 0, rip .*, cr2 8000000$' $g/hvt_plain beyond
    run 'undefined instruction' 255 '^trap 6, error 0' $g/hvt_plain undefined
    run 'abort' 255 '' $g/hvt_plain abort
    run 'triple fault' 134 'triple fault' $g/hvt_plain triple
    hvt 'triple fault' 1 'triple fault' $g/hvt_plain triple

    # What the image's segments allow. KVM has no way to forbid execution.
    run 'write to code' 134 'read-only' $g/hvt_plain bad write-text
    run 'write to constants' 134 'read-only' $g/hvt_plain bad write-rodata
    hvt 'write to code' 1 'read-only' $g/hvt_plain bad write-text
    run 'layout, 4076M' 0 '^ok the last pages' -m 4076M $g/hvt_plain layout
    if [ $engine = kvm ]; then
        run '4 GiB' 125 '4076 MiB of memory at most' -m 4G $g/hvt_plain layout
    else
        run 'run data' 134 'may not execute' $g/hvt_plain bad run-data
        run 'run constants' 134 'may not execute' $g/hvt_plain bad run-rodata
        for way in mov stos movs xadd push sse; do
            run "write to constants by hot $way" 134 'read-only' $g/hvt_plain bad hot-$way
        done
        run 'halt' 123 'interrupts off' $g/hvt_plain halt
        run 'layout, 4G' 0 '^ok the last pages' -m 4G $g/hvt_plain layout
    fi

    disk d0 1M
    disk d1 8K
    run 'disk' 0 '^disk0: 1048576 bytes, sectors of 512' --disk disk0="$tmp/d0" $g/hvt_disk disks
    same "$engine disk: the host sees it" '8 3' \
        "$({ od -An -tu1 -j 1 -N 1 "$tmp/d0"; od -An -tu1 -j 1048064 -N 1 "$tmp/d0"; } | xargs)"
    disk d0 1M
    run 'disk, larger sectors' 0 '^disk0: 1048576 bytes, sectors of 4096' \
        --disk disk0="$tmp/d0",sector=4096 $g/hvt_disk disks
    hvt 'disk' 0 'sectors of 4096' --block:disk0="$tmp/d0" --block-sector-size:disk0=4096 \
        --mem=16 -- $g/hvt_disk disks
    "$mayfly" run --engine $engine --disk disk0="$tmp/d0",ro $g/hvt_disk disks >"$tmp/out" 2>&1
    same "$engine read-only disk" '3 FAIL write the first sector' "$? $(grep -m 1 FAIL "$tmp/out")"

    for bad in block-nowhere block-over-the-end puts-nowhere puts-too-long puts-wraps puts-far \
        read-nowhere read-into-text read-into-rodata results-into-rodata results-into-text \
        cookie-nowhere cookie-far; do
        run "hostile: $bad" 134 'which it has not' --disk disk0="$tmp/d0" $g/hvt_disk bad $bad
    done
    for bad in call-0 call-9 kick byte-call; do
        run "hostile: $bad" 134 'is no hypercall' $g/hvt_plain bad $bad
    done
    run 'hostile: read-port' 134 'where it has no device' $g/hvt_plain bad read-port

    # A network without a tap: frames over a socket that mayfly inherits.
    for spelling in "hvt --engine=$engine --net:net0=@3 --net-mac:net0=02:00:00:00:00:77" \
        "run --engine $engine --timeout 60 --net net0=fd=3,mac=02:00:00:00:00:77"; do
        # shellcheck disable=SC2086
        case_of "$engine ${spelling%% *}: frames" 0 '^net0: 2:0:0:0:0:77 mtu 1500' \
            "$tmp/peer" 40 "$mayfly" $spelling $g/hvt_net echo 40
    done
    for bad in net-write-nowhere net-read-nowhere; do
        run "hostile: $bad" 134 'which it has not' --net net0=fd=9 $g/hvt_net bad $bad 9<>"$tmp/d0"
    done

    # Asleep for ever: it costs nothing, and a signal ends it.
    "$mayfly" hvt --engine=$engine $g/hvt_plain sleep >"$tmp/out" 2>"$tmp/err" </dev/null &
    pid=$!
    for ((i = 0; i < 500; i++)); do grep -q asleep "$tmp/out" && break; sleep 0.02; done
    same "$engine asleep: the vCPU's filter" 2 "$(sed -n 's/^Seccomp:	//p' "/proc/$pid/status")"
    read -r -a a <"/proc/$pid/stat"
    sleep 0.3
    read -r -a b <"/proc/$pid/stat"
    kill -TERM $pid
    wait $pid
    same "$engine asleep: status after SIGTERM" 1 $?
    ticks=$((b[13] + b[14] - a[13] - a[14]))
    same "$engine asleep: no CPU ($ticks ticks of 30)" 1 $((ticks <= 5))
    case_of "$engine asleep: --timeout" 124 asleep \
        "$mayfly" run --engine $engine --timeout 0.3 $g/hvt_plain sleep

    # A debugger stops it there too.
    "$mayfly" hvt --engine=$engine --gdb --gdb-port=0 $g/hvt_plain sleep >"$tmp/out" 2>"$tmp/err" </dev/null &
    pid=$!
    for ((i = 0; i < 500; i++)); do grep -q 'gdb: ' "$tmp/err" && break; sleep 0.02; done
    port=$(sed -n 's/^mayfly: gdb: .*127\.0\.0\.1:\([0-9]*\)$/\1/p' "$tmp/err")
    heard=
    if exec 7<>"/dev/tcp/127.0.0.1/$port"; then
        printf '+$c#63' >&7
        for ((i = 0; i < 500; i++)); do grep -q asleep "$tmp/out" && break; sleep 0.02; done
        sleep 0.1
        printf '\003' >&7
        IFS= read -r -t 20 -d '#' heard <&7
        exec 7>&-
    fi 2>/dev/null
    heard=${heard##*$}
    same "$engine asleep: the debugger's stop" T02 "${heard:0:3}"
    kill -TERM $pid
    wait $pid
    same "$engine asleep: status after the debugger" 1 $?

    mkdir -p "$tmp/cores"
    run 'core of an exception' 255 'core of the guest' --dumpcore "$tmp/cores" $g/hvt_plain null
    core=$(echo "$tmp"/cores/core.mayfly.*)
    rip=$(sed -n 's/.*rip \([0-9a-f]*\), cr2 8$/\1/p' "$tmp/out")
    # RIP of the trap: the 17th word of the registers, which lie 112 bytes into the status.
    at=$((64 + 56 * 2 + 12 + 8 + 112 + 16 * 8))
    same "$engine core: RIP" "$rip" "$(od -An -tx8 -j $at -N 8 "$core" | tr -d ' ' | sed 's/^0*//')"
    same "$engine core: memory" "$(od -An -tx8 -j $((0x1000)) -N 64 $g/hvt_plain)" \
        "$(od -An -tx8 -j $((0x1000 + 0x100000)) -N 64 "$core")"
    same "$engine core: holes" yes "$([ "$(stat -c %b "$core")" -lt 20000 ] && echo yes)"
    rm -f "$tmp"/cores/*
    hvt 'core of a crash' 1 'core of the guest' --dumpcore="$tmp/cores" $g/hvt_plain triple
    hvt 'no core of what ends well' 0 '' --dumpcore="$tmp/cores" $g/hvt_plain say x
    same "$engine cores" 1 "$(find "$tmp/cores" -type f | wc -l)"
    rm -rf "$tmp/cores"
done

# Refusals: before any engine. Both spellings; the tender's status is 1.
engine=interp
run 'disk missing' 125 "it wants a disk 'disk0': give --disk disk0=FILE" $g/hvt_disk disks
run 'net missing' 125 "it wants a network 'net0': give --net net0=tap=TAP" $g/hvt_net echo
hvt 'disk missing' 1 "it wants a disk 'disk0'" $g/hvt_disk disks
run 'two of four' 125 "it wants a network 'net1'" --disk disk0="$tmp/d0" --disk disk1="$tmp/d1" $g/hvt_both
run 'unknown disk' 125 "no disk of that name; it has 'disk0'" --disk other="$tmp/d0" $g/hvt_disk
run 'unknown net' 125 'it has none at all' --net net0=tap=lo $g/hvt_disk
run 'disk without a name' 125 'disks have one' --disk "$tmp/d0" $g/hvt_disk
run 'net without a name' 125 'networks have one' --net user $g/hvt_net
run 'twice the same' 125 'given before' --disk disk0="$tmp/d0" --disk disk0="$tmp/d1" $g/hvt_disk
run 'no such file' 125 'no such file' --disk disk0="$tmp/none" $g/hvt_disk
run 'direct' 125 'not aligned' --disk disk0="$tmp/d0",direct $g/hvt_disk
run 'two disks, one file' 125 'in use' --disk disk0="$tmp/d0" --disk disk1="$tmp/d0" $g/hvt_both
disk odd 6K
hvt 'size and sectors' 1 'not a multiple of its sector size' --block:disk0="$tmp/odd" \
    --block-sector-size:disk0=4096 $g/hvt_disk
for size in 521 256 0 x 65536 ''; do
    hvt "sector size '$size'" 1 'sector' --block:disk0="$tmp/d0" --block-sector-size:disk0="$size" $g/hvt_disk
done
hvt 'sector size of nothing' 1 'nothing is attached' --block-sector-size:disk0=512 $g/hvt_disk
hvt 'mac of nothing' 1 'nothing is attached' --net-mac:net0=02:00:00:00:00:01 $g/hvt_net
hvt 'bad mac' 1 'mac' --net:net0=@3 --net-mac:net0=02:00 $g/hvt_net 3<>"$tmp/d0"
hvt 'no tap' 1 'ip tuntap add' --net:net0=mayflynone $g/hvt_net
hvt 'bad descriptor' 1 'Bad file descriptor' --net:net0=@77 $g/hvt_net
hvt 'bad memory' 1 'not a number of MiB' --mem=1G $g/hvt_plain
hvt 'too much memory' 1 '4 GiB' --mem=4098 $g/hvt_plain
hvt 'no image' 1 'no image given' --mem=16
hvt 'image not there' 1 'No such file' "$tmp/none"
hvt 'another image' 1 '--boot hvt takes' $g/hello
run 'CPUs' 125 'has one CPU' -c 2 $g/hvt_plain
run 'other devices' 125 'only; leave the other devices out' --rng $g/hvt_plain
run 'initrd' 125 'no initrd' --initrd "$tmp/d0" $g/hvt_plain
run 'another boot protocol' 126 'leave --boot out' --boot linux $g/hvt_plain
run 'core directory' 125 'cannot write there' --dumpcore "$tmp/none" $g/hvt_plain
run 'core of another guest' 125 'for Solo5 unikernels' --dumpcore "$tmp" hello
long=$(head -c 8192 /dev/zero | tr '\0' x)
run 'long command line' 126 'at most 8191' $g/hvt_plain say "$long"
run 'as long as can be' 0 'xxxx' $g/hvt_plain say "${long:0:8187}"

# A tap, in a namespace of its own: both spellings, two networks at once.
why=$(no_netns)
if [ -n "$why" ]; then
    skipped "tap" "$why"
else
    # Nobody else talks on them.
    inside sh -c 'for i in all default; do echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done' 2>/dev/null
    for tap in ta tb; do
        inside ip tuntap add dev $tap mode tap && inside ip link set $tap up
    done
    inside ip link set tb mtu 9000
    for engine in interp bt; do
        for tap in ta tb; do
            case_of "$engine tap $tap" 0 '^net1: .* mtu 9000' ip netns exec "$ns" "$tmp/peer" 40,$tap \
                "$mayfly" hvt --engine=$engine --block:disk0="$tmp/d0" --net:net0=ta \
                --block:disk1="$tmp/d1" --net:net1=tb -- $g/hvt_both echo 40
        done
        case_of "$engine run: tap" 0 '^net0: 2:0:0:0:0:9 mtu 1500' ip netns exec "$ns" "$tmp/peer" 40,ta \
            "$mayfly" run --engine $engine --net net0=tap=ta,mac=02:00:00:00:00:09 $g/hvt_net echo 40
    done
fi

# Without a tap, over passt: it answers for the router of the namespace's own (dead) uplink.
if [ -n "$why" ] || ! command -v passt >/dev/null; then
    skipped "user network" "${why:-passt is not installed}"
else
    make_tap up0 10.78.0.2/24
    inside ip route add default via 10.78.0.1
    for engine in interp bt; do
        case_of "$engine user network" 0 '^ok the answer is for me' ip netns exec "$ns" "$mayfly" run \
            --engine $engine --timeout 60 --net net0=user,mac=02:00:00:00:00:09 $g/hvt_net arp
    done
fi

# A comma in a file's name, as the tender takes it.
disk 'a,b,sector=4096' 64K
hvt 'comma in a file name' 0 'sectors of 512' "--block:disk0=$tmp/a,b,sector=4096" $g/hvt_disk disks
finish
