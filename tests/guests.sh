#!/bin/bash
# Our own guests on every engine that can run them: verdicts, output, exit statuses, and the same
# words from each engine.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
g=build/guests
kvm=$("$mayfly" check 2>/dev/null | sed -n 's/^kvm *\([a-z]*\).*/\1/p')

# run NAME WANT_STATUS WANT_STDOUT_FILE|- ARG…: -: any output.
run() {
    local name="$engine $1" want=$2 expected=$3 got
    shift 3
    "$mayfly" run --engine "$engine" --timeout 120 "$@" </dev/null >"$tmp/out" 2>"$tmp/err"
    got=$?
    if [ $got -ne "$want" ]; then
        not_ok "$name" "status $got, not $want: $(grep -m 3 ^FAIL "$tmp/out" | tr -d '\r' | tr '\n' ';') $(head -n 1 "$tmp/err")"
    elif [ "$expected" != - ] && ! cmp -s "$tmp/out" "$expected"; then
        not_ok "$name" "printed: $(head -c 200 "$tmp/out")"
    elif [ -n "$pattern" ] && ! grep -q "$pattern" "$tmp/out"; then
        not_ok "$name" "no line '$pattern'"
    else
        ok "$name"
    fi
}
# verdict NAME IMAGE: a bare guest; its status is its count of failures, and it must have come to
# its verdict.
verdict() {
    local pattern='^verdict: [1-9][0-9]* passed, 0 failed'
    run "$1" 0 - "$2"
}

printf 'hello, world\n' >"$tmp/hello"
printf 'hello, world\none\ntwo words\nit'\''s\n' >"$tmp/hello-args"
printf 'hello from CPL 0\n' >"$tmp/kvm-hello"
printf 'linux32: one two  words\n' >"$tmp/linux32"
printf 'cpl3: 100000000 steps, checksum ecb950a8859391ef\n' >"$tmp/cpl3"

printf 'smp: 2 CPUs, 50 interrupts there and back\n' >"$tmp/smp2"
printf 'smp: 16 CPUs, 750 interrupts there and back\n' >"$tmp/smp16"

pattern= # a line that must be there
for engine in interp bt kvm; do
    if [ $engine = kvm ] && [ "${kvm:-none}" != software ] && [ "${kvm:-none}" != hardware ]; then
        skipped kvm "no /dev/kvm"
        continue
    fi
    run "kvm/hello" 0 "$tmp/kvm-hello" $g/kvm/hello
    [ $engine = interp ] || run "kvm/cpl3" 0 "$tmp/cpl3" $g/kvm/cpl3
    run "kvm/exits" 0 - $g/kvm/exits 100
    run "kvm/smp, 2 CPUs" 0 "$tmp/smp2" -c 2 $g/kvm/smp 2
    run "kvm/smp, 16 CPUs" 0 "$tmp/smp16" -c 16 $g/kvm/smp 16
    if [ $engine = kvm ] && [ "$kvm" = software ]; then
        run "hello" 0 "$tmp/hello" hello
        run "hello --exit" 7 "$tmp/hello" hello --exit 7
        run "crash: null pointer" 139 - $g/check crash null
        # Its emulator's own mistakes are not ours; what it lacks, the interpreter has to do.
        "$mayfly" run --engine kvm --timeout 60 $g/selftest </dev/null 2>"$tmp/err" | tr -d "\r" >"$tmp/out"
        bad=
        for part in popcnt crc32 x87 mmx sse sse_float fxsave sse4 avx; do
            grep -qE "^(PASS|SKIP) $part(:|$)" "$tmp/out" || bad+="$part "
        done
        grep -q '^verdict: ' "$tmp/out" || bad+="no verdict: $(head -n 1 "$tmp/err")"
        if [ -z "$bad" ]; then ok "kvm selftest, what KVM cannot emulate"; else not_ok "kvm selftest" "$bad"; fi
        # A kernel on it: told in one line, stopped as asked.
        if [ -s .cache/vmlinuz ]; then
            "$mayfly" run --engine kvm --timeout 1 .cache/vmlinuz console=ttyS0 </dev/null >"$tmp/out" 2>"$tmp/err"
            got=$?
            if [ $got -eq 124 ] && [ "$(wc -l <"$tmp/err")" = 1 ] && grep -q 'interprets kernel code' "$tmp/err"; then
                ok "kvm Debian: told that it is slow"
            else
                not_ok "kvm Debian: told that it is slow" "status $got: $(head -n 2 "$tmp/err")"
            fi
        fi
        skipped "kvm timer, smc" "this KVM interprets kernel code, and not exactly"
        continue
    fi
    run "hello" 0 "$tmp/hello" hello
    run "hello --exit" 7 "$tmp/hello" hello --exit 7
    run "hello, quoted arguments" 0 "$tmp/hello-args" hello one 'two words' "it's"
    run "hello from its file, 4M" 0 "$tmp/hello" -m 4M $g/hello
    run "hello, 3584M" 0 "$tmp/hello" -m 3584M $g/hello
    for part in memory clock libc vm threads futex signals timers waits files process; do
        pattern='^PASS'
        run "check $part" 0 - $g/check $part
        pattern=
    done
    run "crash: null pointer" 139 - $g/check crash null
    run "crash: division by zero" 136 - $g/check crash divide
    run "crash: illegal instruction" 132 - $g/check crash illegal
    run "crash: abort" 134 - $g/check crash abort
    run "crash: stack overflow" 139 - $g/check crash stack
    run "exit status is a byte" 44 - $g/check crash exit

    head -c 300000 /dev/urandom >"$tmp/bytes"
    "$mayfly" run --engine $engine --timeout 60 $g/check echo <"$tmp/bytes" >"$tmp/out" 2>"$tmp/err"
    status=$?
    if [ $status -eq 0 ] && cmp -s "$tmp/bytes" "$tmp/out" && grep -qx '300000 bytes' "$tmp/err"; then
        ok "$engine stdin to stdout, to its end"
    else
        not_ok "$engine stdin to stdout, to its end" "status $status, $(stat -c %s "$tmp/out") bytes"
    fi
    run "linux32" 32 "$tmp/linux32" $g/linux32 one 'two  words'
    verdict flat32 $g/flat32
    verdict selftest $g/selftest
    verdict timer $g/timer
    for cpus in 2 4; do # hangs, where a wake-up is lost
        pattern='^verdict: [1-9][0-9]* passed, 0 failed'
        run "wake, $cpus CPUs" 0 - -c $cpus $g/wake $cpus 1200
        pattern=
    done
    verdict smc $g/smc
done

# The translator with each of its techniques off, and with nothing too cold to be translated.
engine=bt
for off in eager no-chain no-liveness no-inline no-window no-trace no-low one-insn; do
    for guest in selftest flat32 timer smc; do
        pattern='^verdict: [1-9][0-9]* passed, 0 failed'
        run "--bt-$off $guest" 0 - --bt-$off $g/$guest
    done
done
pattern=
finish
