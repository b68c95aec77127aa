#!/bin/bash
# `make bench-bt`: the same kernels natively, in a unikernel under bt, in Debian's kernel under bt and
# under QEMU's TCG, and programs of Debian's packages in the last two. The places take turns, ROUNDS
# of REPS each; times are pooled. Outputs must be equal everywhere, or the status is 1; the bars of
# speed are printed, and decide nothing. On a busy machine read the minima, of many short repetitions:
# ROUNDS=1 REPS=60 DIVISOR=20.
# ROUNDS, REPS, DIVISOR (shorter kernels), PROGRAMS (times a round), BOOTS, PLACES; ROWS=FILE keeps
# the raw rows.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
. tests/bench/places.sh
rounds=${ROUNDS:-3} reps=${REPS:-7} divisor=${DIVISOR:-1} programs=${PROGRAMS:-2} boots=${BOOTS:-3}
places=${PLACES:-native unikernel mayfly tcg}
all=${ROWS:-$tmp/rows}

machine() {
    echo "$1: $("$mayfly" check | sed -n 's/^cpu *//p'), $(nproc) CPUs, load $(cut -d' ' -f1-3 /proc/loadavg), $(date '+%F %T')"
}
bench_prepare || { echo "cannot make the benchmark's initrd"; exit 1; }
[ -n "$qemu" ] || { places=${places/tcg/}; echo "QEMU is not installed: no TCG column"; }
[ -s .cache/vmlinuz ] || { places="native unikernel"; echo "no Debian kernel in .cache: not measured"; }
machine "before"
: >"$all"
for ((round = 1; round <= rounds; round++)); do
    for place in $places; do
        start=$SECONDS
        if ! rows "$place" "$reps" "$divisor" "$programs" >>"$all"; then
            echo "$place did not come to its end"
            failures=$((failures + 1))
        fi
        [ ! -t 2 ] || echo "round $round, $place: $((SECONDS - start)) s" >&2
    done
done
for place in $places; do
    [ "$boots" -gt 0 ] || break
    case $place in
    mayfly) boot=("$tmp/mayfly" run --engine bt -m 256M --initrd build/initrd.gz .cache/vmlinuz
        "${append[@]}" t=boot) ;;
    tcg) boot=("$qemu" "${bench_tcg[@]}" -kernel .cache/vmlinuz -initrd build/initrd.gz -append
        "${append[*]} t=boot") ;;
    *) continue ;;
    esac
    echo "boot $place $(build/timeit "$boots" "${boot[@]}")" >>"$all"
done
grep -v '^boot' "$all" | awk -f tests/bench/compare.awk >"$tmp/compared" || failures=$((failures + 1))
awk -f tests/bench/table.awk "$all"
machine "after"
cat "$tmp/compared"
[ $failures -gt 0 ] || echo "outputs are equal in all places"
finish
