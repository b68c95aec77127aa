#!/bin/bash
# While a guest runs, every thread of mayfly is filtered and has no way to new privileges.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
# A guest that waits for input for ever.
watch() {
    local name=$1 want=$2 pid n=0 bad=0 t
    shift 2
    mkfifo "$tmp/stdin.$name"
    "$mayfly" run --timeout 30 "$@" build/guests/check echo <"$tmp/stdin.$name" >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    exec 9>"$tmp/stdin.$name"
    echo up >&9
    for _ in $(seq 100); do # until the guest has answered
        [ -s "$tmp/out" ] && break
        sleep 0.05
    done
    for t in /proc/$pid/task/*/status; do
        n=$((n + 1))
        grep -q "^Seccomp:	$want" "$t" || bad=$((bad + 1))
        [ "$want" = 0 ] || grep -q '^NoNewPrivs:	1' "$t" || bad=$((bad + 1))
    done
    exec 9>&-
    wait $pid
    if [ $n -ge 2 ] && [ $bad -eq 0 ]; then
        ok "$name: $n threads, Seccomp: $want"
    else
        not_ok "$name" "$bad of $n threads differ from Seccomp: $want; $(head -n 1 "$tmp/err")"
    fi
}
watch bt 2 --engine bt
watch interp 2 --engine interp
watch off 0 --engine bt --seccomp off

# A guest that asks for nothing has no second thread, until a signal comes.
alone() {
    local pid n=0 status
    "$mayfly" run --engine "$1" /bin/busybox sh -c 'echo up; while :; do :; done' >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    for _ in $(seq 100); do
        [ -s "$tmp/out" ] && break
        sleep 0.05
    done
    n=$(find /proc/$pid/task -mindepth 1 -maxdepth 1 | wc -l)
    status=$(sed -n 's/^Seccomp:	//p' /proc/$pid/status)
    kill -TERM $pid
    wait $pid
    status="$n $status $?"
    if [ "$status" = '1 2 143' ]; then
        ok "$1: a spinning program is one thread, filtered; SIGTERM ends it"
    else
        not_ok "$1: a spinning program alone" "threads, Seccomp, status: $status, not 1 2 143"
    fi
}
for engine in bt interp; do alone "$engine"; done
finish
