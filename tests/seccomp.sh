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
finish
