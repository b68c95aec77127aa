#!/bin/bash
# --gdb: Debian's gdb with a program on the runtime and with Debian's kernel on two CPUs, and the
# protocol by hand: interrupts, a second client, bytes that are no packets.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
p=build/progs
mkdir -p $p
prog=$p/debugme
[ $prog -nt tests/progs/debugme.c ] || musl-gcc -g -O0 -static -no-pie -o $prog tests/progs/debugme.c

# start ARG…: mayfly with --gdb on a free port; sets $pid and $port.
start() {
    local word=
    port=
    [ "$1" != i386 ] || { word=,i386; shift; }
    : >"$tmp/err"
    "$mayfly" run --gdb 0$word --timeout 60 "$@" >"$tmp/out" 2>"$tmp/err" </dev/null &
    pid=$!
    for _ in $(seq 100); do
        port=$(sed -n 's/^mayfly: gdb: .*127\.0\.0\.1:\([0-9]*\)$/\1/p' "$tmp/err")
        [ -n "$port" ] && return
        kill -0 $pid 2>/dev/null || break
        sleep 0.02
    done
    not_ok "start $*" "$(head -n 1 "$tmp/err")"
}
# ended NAME STATUS: mayfly's.
ended() {
    wait $pid
    local got=$?
    if [ $got -eq "$2" ]; then ok "$1"; else not_ok "$1" "status $got, not $2: $(head -n 2 "$tmp/err" | tr '\n' ' ')"; fi
}

# --- by hand ---------------------------------------------------------------------------------------
connect() {
    exec 7<>/dev/tcp/127.0.0.1/"$port"
    tell QStartNoAckMode
    printf + >&7
}
send() { # the packet's bytes, with their sum
    local sum=0 i
    for ((i = 0; i < ${#1}; i++)); do
        sum=$((sum + $(printf '%d' "'${1:i:1}")))
    done
    printf '$%s#%02x' "$1" $((sum & 255)) >&7
}
hear() { # the data of the next packet in $heard
    local sum
    IFS= read -r -t 20 -d '#' heard <&7 && read -r -t 5 -N 2 sum <&7
    heard=${heard#*\$}
}
tell() {
    send "$1"
    hear
}
# expect NAME PACKET PATTERN
expect() {
    tell "$2"
    # shellcheck disable=SC2254
    case $heard in
    $3) ok "$1" ;;
    *) not_ok "$1" "'$2' gave '$heard', not '$3'" ;;
    esac
}

start --engine bt $prog spin
connect
expect 'why it stands' '?' 'T05thread:1;*'
expect 'two CPUs there are not' Hg2 E01
expect 'the thread' qfThreadInfo m1
expect 'memory that is not there' mdead0000000,4 E14
expect 'an unknown packet' nonsense ''
expect 'an unknown breakpoint' Z7,1000,1 ''
send 'vCont;c'
for _ in $(seq 200); do # until the program has printed
    [ -s "$tmp/out" ] && break
    sleep 0.05
done
printf '\003' >&7
hear
case $heard in T02*) ok 'Ctrl-C' ;; *) not_ok 'Ctrl-C' "'$heard'" ;; esac
rip=$(nm $prog | sed -n 's/^0*\([0-9a-f]*\) . main$/\1/p')
expect 'a step' 's' 'T05*'
expect 'its code' "m$rip,1" 55
expect 'code is written' "M$rip,1:90" OK
expect 'and read again' "m$rip,1" 90
exec 7>&- # gone without a word: the guest runs on
connect
expect 'a second client' '?' 'T05*'
stop=$(nm $prog | sed -n 's/^0*\([0-9a-f]*\) . stop$/\1/p')
expect 'a variable is set' "M$stop,4:01000000" OK
expect 'the end' 'vCont;c' W19
exec 7>&-
ended 'its own status' 25

start --engine bt $prog spin
connect
head -c 300000 /dev/urandom >&7 2>/dev/null
exec 7>&-
connect
expect 'after noise' qC QC1
expect 'killed' vKill\;1 OK
exec 7>&-
ended 'status when killed' 137

# A triple fault can be looked at before it is the end (a multiboot image: UD2, and no IDT).
printf '\x02\xb0\xad\x1b\x00\x00\x01\x00\xfe\x4f\x51\xe4\x00\x00\x10\x00\x00\x00\x10\x00' >"$tmp/triple"
printf '\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x10\x00\x0f\x0b' >>"$tmp/triple"
start --engine bt -c 2 "$tmp/triple"
connect
expect 'a triple fault' 'vCont;c' 'T06thread:1;'
expect 'where it was' p10 2000100000000000
expect 'its thread' qThreadExtraInfo,1 "$(printf 'CPU 0 [crashed]' | od -An -tx1 | tr -d ' \n')"
expect 'the other' qThreadExtraInfo,2 "$(printf 'CPU 1 [waits for its start]' | od -An -tx1 | tr -d ' \n')"
expect 'its end' 'vCont;c' X06
exec 7>&-
ended 'status after a triple fault' 134
# It stops all while they are being told to go.
for _ in 1 2 3 4 5; do
    start --engine bt -c 4 "$tmp/triple"
    connect
    expect 'a triple fault at once, 4 CPUs' 'vCont;c' 'T06thread:1;'
    tell vKill\;1
    exec 7>&-
    ended 'killed, 4 CPUs' 137
done
start --engine bt build/guests/check crash null
connect
expect "a program's end by a signal" 'vCont;c' X0b
exec 7>&-
ended 'its status' 139

# --- gdb itself ------------------------------------------------------------------------------------
if ! command -v gdb >/dev/null; then
    skipped 'gdb' 'not installed'
    finish
fi
# session NAME FILE COMMAND…: what gdb says is in $tmp/gdb.
session() {
    local name=$1 file=$2 c args=(-ex 'set pagination off' -ex 'set confirm off' -ex "target remote 127.0.0.1:$port")
    shift 2
    for c in "$@"; do
        args+=(-ex "$c")
    done
    HOME=$tmp timeout 60 gdb -nx -q -batch "${args[@]}" "$file" >"$tmp/gdb" 2>&1 || not_ok "$name" "gdb: $(tail -n 1 "$tmp/gdb")"
}
# said NAME PATTERN: in the order of the calls.
said() {
    local at
    at=$(tail -n "+$line" "$tmp/gdb" | grep -n -m 1 -e "$2" | cut -d: -f1)
    if [ -n "$at" ]; then
        line=$((line + at))
        ok "$1"
    else
        not_ok "$1" "no '$2' from line $line of: $(head -c 400 "$tmp/gdb" | tr '\n' '|')"
    fi
}

for engine in bt 'bt --bt-eager' interp; do
    # shellcheck disable=SC2086
    start --engine $engine $prog
    session "$engine program" $prog 'break main' continue 'break leaf if x == 2' continue backtrace finish \
        'print counter' 'watch counter' continue backtrace 'rwatch product' 'disable 3' continue delete \
        stepi 'x/i $pc' 'print product' 'print $xmm0.v2_double[0] > 0' 'set var product = 0.5' \
        'info registers cr0 efer' 'info threads' 'monitor translate 401000' 'print $cr0 & 1' continue
    line=1
    said "$engine breakpoint at main" '^Breakpoint 1, main'
    said "$engine breakpoint with a condition" '^Breakpoint 2, leaf (x=2)'
    said "$engine backtrace" '^#1 .* in middle (x=2)'
    said "$engine backtrace to main" '^#2 .* in main'
    said "$engine finish" '^Value returned is .* = 4'
    said "$engine a variable" '^\$2 = 3'
    said "$engine watchpoint" '^Hardware watchpoint 3: counter'
    said "$engine its values" '^New value = 6'
    said "$engine where it was written" '^#0 .*leaf (x=3)'
    said "$engine read watchpoint" '^Hardware read watchpoint 4: product'
    said "$engine its value" '^Value = 1.5 \* 1\|^Value = 1417.5\|^Value = [0-9.]*'
    said "$engine disassembly" '^=> 0x'
    said "$engine a floating-point variable" '^\$[0-9]* = '
    said "$engine vector registers" '^\$[0-9]* = 1'
    said "$engine system registers" '^cr0 .*0x8'
    said "$engine threads" 'Thread 1 (CPU 0 \[user\])'
    said "$engine monitor" '^401000 is at .* user'
    said "$engine the guest's end" 'exited with code 031'
    ended "$engine its status" 25
done

# Long enough to be translated.
start --engine bt $prog spin
session 'watched loop' $prog 'break main' continue 'rwatch stop' 'ignore 2 300' continue 'info breakpoints' delete \
    'set var stop = 1' continue
line=1
said 'watched loop: every round is seen' 'already hit 301 times'
ended 'watched loop: its end' 25

# A movable program: gdb is told where it lies.
gcc -g -O0 -static-pie -o "$tmp/pie" tests/progs/debugme.c
start --engine bt "$tmp/pie"
session 'static-pie' "$tmp/pie" 'break leaf' continue 'print x' delete continue
line=1
said 'static-pie: breakpoint' '^Breakpoint 1, leaf (x=0)'
said 'static-pie: the end' 'exited with code 031'
ended 'static-pie: its status' 25

# A guest without symbols that every KVM can run; software KVM knows no watchpoints, and no breakpoint
# in user code. Breakpoints beyond four are INT3 under kvm, here never met.
for engine in $(engines); do
    [ $engine = interp ] && continue
    start i386 --engine $engine build/guests/kvm/exits 100
    session "$engine bare guest" build/guests/kvm/exits 'hbreak *0x100011' 'stepi' 'break *0x10001f' continue stepi \
        'break *0x100086' 'break *0x100087' 'break *0x100088' continue 'x/1xb 0x100086' 'print $ecx' \
        'info registers eip cr0' 'set $eax = 7' stepi 'print $ecx' 'info threads' 'delete' continue
    line=1
    said "$engine a step" '^0x0*100005 in'
    said "$engine hardware breakpoint" '^Breakpoint 1, '
    said "$engine a step from it" '^0x0*100013 in'
    said "$engine breakpoint" '^Breakpoint 2, '
    said "$engine memory has no breakpoints in it" "^0x100086.*0x$(objdump -s --start-address=0x100086 --stop-address=0x100087 build/guests/kvm/exits | sed -n 's/^ 100086 \(..\).*/\1/p')"
    said "$engine a register" '^\$1 = '
    said "$engine its registers" '^eip  *0x10001f'
    said "$engine CR0" '^cr0  *0x'
    said "$engine a register was set" '^\$2 = 7'
    said "$engine the end" 'exited normally'
    ended "$engine bare guest's status" 0
done

# Several CPUs: who met the breakpoint stands there, the others where they were. Four more take the debug
# registers of kvm, so that this one is an INT3.
for engine in $(engines); do
    [ $engine = interp ] && continue
    start i386 --engine $engine -c 3 build/guests/kvm/smp 3
    session "$engine 3 CPUs" build/guests/kvm/smp 'info threads' 'break *0x1' 'break *0x2' 'break *0x3' 'break *0x4' \
        'break *ping' 'break *pong' continue 'info threads' stepi 'x/1xb ping' continue continue delete continue
    line=1
    said "$engine 3 CPUs: two wait" '3 .*Thread 3 (CPU 2 \[waits'
    said "$engine 3 CPUs: the second met it" 'Thread 2 hit Breakpoint 5'
    said "$engine 3 CPUs: the code is as it was" '<ping>:	0xc7'
    said "$engine 3 CPUs: the first met the answer" 'Thread 1 hit Breakpoint 6'
    said "$engine 3 CPUs: the third" 'Thread 3 hit Breakpoint 5'
    said "$engine 3 CPUs: the end" 'exited normally'
    ended "$engine 3 CPUs: its status" 0
done

needs_debian 'gdb and Debian'
# The second CPU waits for its start while the first stands at its first instruction.
start --engine bt -c 2 -m 256M --initrd build/initrd.gz .cache/vmlinuz console=ttyS0 panic=-1 reboot=t nokaslr
session 'Debian' .cache/vmlinux 'info threads' 'hbreak *0xffffffff81000000' 'info registers rip' \
    'delete' 'watch *(int *)0xffffffffdeadbeef' 'delete' detach
line=1
said 'Debian: the first CPU' 'Thread 1 (CPU 0 \[kernel\])'
said 'Debian: the second waits' 'Thread 2 (CPU 1 \[waits'
said 'Debian: detached' 'detached'
for _ in $(seq 600); do
    grep -q '^T: cpus' "$tmp/out" && break
    sleep 0.05
done
if tr -d '\r' <"$tmp/out" | grep -qx 'T: cpus 2'; then ok 'Debian: runs on after detach'; else not_ok 'Debian: runs on after detach' "$(tail -n 1 "$tmp/out")"; fi
session 'Debian, second' .cache/vmlinux 'info threads' 'thread 2' 'stepi' 'info registers rip' 'thread 1' 'stepi' 'stepi' \
    'print $cs' 'monitor cpus' detach
line=1
said 'Debian: both in the kernel or user space' 'Thread 1 (CPU 0 \[[khu]'
said 'Debian: the second too' 'Thread 2 (CPU 1 \[[khu]'
said 'Debian: to the second' 'Switching to thread 2'
said 'Debian: its RIP' '^rip '
said 'Debian: to the first' 'Switching to thread 1'
said 'Debian: monitor cpus' '^CPU 1: '
said 'Debian: detached again' 'detached'
ended 'Debian: to its end' 0
tr -d '\r' <"$tmp/out" | grep -q '^T: done' || not_ok 'Debian: all of it' "$(tail -n 1 "$tmp/out")"
finish
