#!/bin/bash
# make fuzz: the randomised tests, for longer and from a new seed each time (SEED=N repeats a run,
# FACTOR=N is how much longer than in make test).
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
seed=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')} factor=${FACTOR:-10}
echo "SEED=$seed FACTOR=$factor"

# fuzz NAME PROGRAM VARIABLE=VALUE…
fuzz() {
    local name=$1 program=$2
    shift 2
    if [ ! -x "$program" ]; then
        skipped "$name" "$program is not built"
    elif env "$@" "$program" >"$tmp/out" 2>&1; then
        ok "$name"
        grep -iE 'forms|covered|rounds' "$tmp/out" | sed 's/^/    /'
    else
        not_ok "$name" "env $* $program"
        tail -n 20 "$tmp/out" | sed 's/^/    /'
    fi
}
# The decoder's number is both its count and its seed.
fuzz "decoder against Zydis" build/unit_decode_zydis DECODE_FUZZ=$((2000000 * factor + seed % 1000))
fuzz "hostile images" build/unit_boot_hostile SEED=$((seed | 1)) MUTATIONS=$((100000 * factor))
# TIME=seconds ends it early; CASES=, SEQS= say how many of each.
fuzz "instructions against the CPU" build/fuzz_cpu SEED=$seed CASES="${CASES:-$((1000000 * factor))}" \
    SEQS="${SEQS:-$((80000 * factor))}"
fuzz "32-bit instructions against the CPU" build/fuzz_cpu MODE=32 SEED=$((seed + 2)) \
    CASES="${CASES:-$((300000 * factor))}" SEQS="${SEQS:-$((40000 * factor))}"
fuzz "the same, kicked" build/fuzz_cpu KICKS=50 SEED=$((seed + 1)) CASES="${CASES:-$((100000 * factor))}" \
    SEQS="${SEQS:-$((20000 * factor))}"
finish
