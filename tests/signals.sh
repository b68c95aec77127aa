#!/bin/bash
# Signals sent to mayfly: a program in the runtime gets them; two in a row, SIGQUIT, or a guest that
# does not answer, end the run.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
p=build/progs
mkdir -p $p
[ $p/caught -nt tests/progs/caught.c ] || musl-gcc -O1 -static -o $p/caught tests/progs/caught.c || not_ok "build caught" "musl-gcc"
mkfifo "$tmp/stdin"

# A job of a script has SIGINT and SIGQUIT ignored: give it the default.
# shellcheck disable=SC2016
reset='$SIG{INT} = $SIG{QUIT} = "DEFAULT"; exec @ARGV'

# sent NAME ENGINE STATUS LINE HOW WHAT…: WHAT is a signal or a pause; LINE is what it prints last
sent() {
    local name=$1 engine=$2 want=$3 line=$4 how=$5 pid got i
    shift 5
    : >"$tmp/out"
    perl -e "$reset" "$mayfly" run --engine "$engine" --timeout 20 $p/caught "$how" 0<>"$tmp/stdin" >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    for ((i = 0; i < 500; i++)); do
        grep -q ready "$tmp/out" && break
        sleep 0.02
    done
    for i in "$@"; do
        case $i in
        0*) sleep "$i" ;;
        *) kill -"$i" $pid ;;
        esac
    done
    wait $pid
    got=$?
    if [ $got -eq "$want" ] && [ "$(tail -n 1 "$tmp/out")" = "$line" ] && [ ! -s "$tmp/err" ]; then
        ok "$engine $name"
    else
        not_ok "$engine $name" "status $got, not $want: $(tail -n 1 "$tmp/out") $(head -n 1 "$tmp/err")"
    fi
}

for engine in $(engines); do
    sent 'a handler, waiting' "$engine" 42 'signal 2' caught INT
    sent 'a handler, computing' "$engine" 55 'signal 15' spin TERM
    sent 'a handler, reading stdin' "$engine" 42 'signal 2' read INT
    sent 'none: the default' "$engine" 130 ready default INT
done
sent 'SIGHUP' bt 41 'signal 1' caught HUP
sent 'SIGUSR1' bt 50 'signal 10' caught USR1
sent 'SIGUSR2: the default' bt 140 ready default USR2
sent 'blocked, sigwait' bt 42 'signal 2' blocked INT
sent 'blocked, signalfd' bt 55 'signal 15' signalfd TERM
sent 'ignored' bt 40 'signal 0' ignored TERM
sent 'two in a row' bt 130 ready ignored INT 0.2 INT
sent 'another in a row' bt 143 ready ignored INT 0.2 TERM
sent 'one that came twice' bt 40 'signal 0' ignored TERM TERM
sent 'SIGQUIT' bt 131 ready caught QUIT

# At any moment of a program's start: it is the program's end, or its handler's. Its APIC may be off.
# shellcheck disable=SC2016
early='for (1 .. 150) {
    my $pid = fork // die;
    if (!$pid) { open STDOUT, ">", "/dev/null"; exec @ARGV }
    select undef, undef, undef, 0.0003 + rand 0.006;
    kill USR1 => $pid;
    eval { local $SIG{ALRM} = sub { die }; alarm 3; waitpid $pid, 0; alarm 0; 1 }
        or do { $late++; kill KILL => $pid; waitpid $pid, 0 };
}
print $late + 0'
for engine in $(engines); do
    got=$(perl -e "$early" "$mayfly" run --engine "$engine" $p/caught spin 2>"$tmp/err")
    if [ "$got" = 0 ]; then ok "$engine SIGUSR1 while starting"; else not_ok "$engine SIGUSR1 while starting" "$got of 150 went on $(head -n 1 "$tmp/err")"; fi
done

# With a device the I/O thread sleeps in io_uring_enter(), here in the very first: nothing else comes,
# nor does a time-out.
for with in "--share=$tmp" --rng; do
    perl -e "$reset" "$mayfly" run "$with" /bin/busybox awk 'BEGIN { for (;;) ; }' 2>"$tmp/err" &
    pid=$!
    sleep 0.5
    kill -INT $pid
    for ((i = 0; i < 50; i++)); do
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL $pid 2>/dev/null
    wait $pid
    got=$?
    if [ $got -eq 130 ]; then ok "${with%=*}"; else not_ok "${with%=*}" "status $got $(head -n 1 "$tmp/err")"; fi
done

# Of a guest that does not answer: it waits for a reader of stdout, who does not read.
mkfifo "$tmp/full"
perl -e "$reset" "$mayfly" run --engine bt --timeout 20 /bin/busybox sh -c 'trap "" TERM; while echo y; do :; done' >"$tmp/full" 2>"$tmp/err" &
pid=$!
exec 8<"$tmp/full"
sleep 0.5
kill -TERM $pid
wait $pid
got=$?
exec 8<&-
if [ $got -eq 143 ]; then ok "no answer"; else not_ok "no answer" "status $got $(head -n 1 "$tmp/err")"; fi

# One that dies of it: what its reader has not taken is not waited for. Nor is that which it is told
# at once, or while it writes.
for engine in bt interp bt interp; do
    perl -e "$reset" "$mayfly" run --engine $engine --timeout 20 /bin/busybox yes >"$tmp/full" 2>"$tmp/err" &
    pid=$!
    exec 8<"$tmp/full"
    sleep 0.5
    start=$SECONDS
    kill -TERM $pid
    wait $pid
    got=$?
    exec 8<&-
    if [ $got -eq 143 ] && [ $((SECONDS - start)) -lt 10 ]; then ok "$engine: a reader that stands still"; else not_ok "$engine: a reader that stands still" "status $got after $((SECONDS - start)) s"; fi
done

if command -v script >/dev/null; then
    timeout 20 script -qec "stty rows 20 cols 30; $(printf '%q ' "$mayfly" run --engine bt $p/caught size) & sleep 0.5; stty rows 33; wait" /dev/null >"$tmp/out" 2>&1 </dev/null
    if grep -q 'size 33 30' "$tmp/out" && grep -q 'signal 28' "$tmp/out"; then ok "the window's size"; else not_ok "the window's size" "$(tr '\n' ';' <"$tmp/out")"; fi
    # shellcheck disable=SC2016
    { sleep 0.7; printf 'echo $((6*7))\x03'; sleep 0.4; printf 'echo $((5*5))\nexit 3\n'; sleep 0.4; } |
        timeout 20 script -qec "$(printf '%q ' "$mayfly" run --engine bt /bin/busybox sh); echo status \$?" /dev/null >"$tmp/out" 2>&1
    if grep -q '^25' "$tmp/out" && ! grep -q '^42' "$tmp/out" && grep -q 'status 3' "$tmp/out"; then ok "Ctrl-C at a shell's prompt"; else not_ok "Ctrl-C at a shell's prompt" "$(tr -cd '[:print:]\n' <"$tmp/out" | tr '\n' ';')"; fi
else
    skipped "the window's size, Ctrl-C" "no script(1)"
fi
finish
