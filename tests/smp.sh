#!/bin/bash
# shellcheck source=tests/lib.sh
# Debian's kernel on 2, 4 and 16 virtual CPUs under bt: boots, and a load on all of them at once in
# which everything computed twice must come out the same, while a CPU comes and goes; two processes
# at once. BOOTS=50 tests/smp.sh repeats the boots, LOAD=600 prolongs the load (seconds).
. "$(dirname "$0")/lib.sh"
engine=${ENGINE:-bt}
boots=${BOOTS:-1} load=${LOAD:-4}
vmlinuz=.cache/vmlinuz
append="console=ttyS0 panic=-1 reboot=t"

needs_debian smp "$vmlinuz"
# boot CPUS
boot() {
    local name="$engine, $1 CPUs: boot" status
    "$mayfly" run --engine "$engine" -m 256M -c "$1" --timeout 240 --initrd build/initrd.gz $vmlinuz $append \
        </dev/null 2>"$tmp/err" | tr -d '\r' >"$tmp/out"
    status=${PIPESTATUS[0]}
    if [ "$status" -ne 0 ]; then
        not_ok "$name" "status $status: $(tail -n 1 "$tmp/out" | cut -c1-120) $(tail -n 1 "$tmp/err")"
    elif ! grep -qx "T: cpus $1" "$tmp/out" || ! grep -q '^T: done' "$tmp/out" ||
        ! grep -qx 'T: sum 2666866670000' "$tmp/out"; then
        not_ok "$name" "$(grep '^T: cpus' "$tmp/out") $(tail -n 1 "$tmp/out" | cut -c1-120)"
    elif grep -qE 'BUG:|WARNING: CPU|lockup|Oops|Call Trace' "$tmp/out"; then
        not_ok "$name" "$(grep -m 1 -E 'BUG:|WARNING: CPU|lockup|Oops|Call Trace' "$tmp/out")"
    else
        ok "$name"
    fi
}
for cpus in 2 4; do
    for _ in $(seq "$boots"); do boot $cpus; done
done

tests/guest_initrd.sh "$tmp/load.img" tests/smp.guest
# load CPUS SECONDS
load() {
    local name="$engine, $1 CPUs: load of $2 s" status job bad=
    "$mayfly" run --engine "$engine" -m 512M -c "$1" --timeout $((240 + $2 * 2)) --initrd "$tmp/load.img" $vmlinuz $append "t=$2" \
        </dev/null 2>"$tmp/err" | tr -d '\r' >"$tmp/out"
    status=${PIPESTATUS[0]}
    mkdir -p build/test
    cp "$tmp/out" "build/test/smp-load-$1.out"
    for job in sort gzip fork pipe awk file plug; do
        # All workers said it, and the same.
        [ "$(grep -c "^T: $job " "$tmp/out") $(grep "^T: $job " "$tmp/out" | sort -u | wc -l)" = '2 1' ] || bad+="$job "
    done
    if [ "$status" -ne 0 ]; then
        not_ok "$name" "status $status: $(tail -n 1 "$tmp/out" | cut -c1-120) $(tail -n 1 "$tmp/err")"
    elif ! grep -qx "T: cpus $1" "$tmp/out" || ! grep -qx 'T: kernel 0' "$tmp/out" || ! grep -qx 'T: done' "$tmp/out"; then
        not_ok "$name" "$(grep -A 3 '^T: kernel' "$tmp/out" | tr '\n' '|') $(tail -n 1 "$tmp/out" | cut -c1-120)"
    elif grep -qx 'T: offline 0 times' "$tmp/out"; then
        not_ok "$name" "no CPU went and came"
    elif [ -n "$bad" ]; then
        not_ok "$name" "${bad}came out differently: $(grep -m 1 differs "$tmp/out")"
    else
        ok "$name: $(sed -n 's/^T: rounds //p' "$tmp/out")"
    fi
}
load 2 "$load"
load 4 "$load"
load 16 2
finish
