#!/bin/bash
# Instructions natively, in interp and in bt, from a fixed seed: all forms several times, sequences
# in every mode of the translator. make fuzz goes on from other seeds.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
run() {
    local name=$1
    shift
    if env "$@" build/fuzz_cpu >"$tmp/out" 2>&1; then
        ok "$name: $(sed -n 's/^\([1-9].* instruction forms\) covered.*/\1, /p' "$tmp/out")$(tail -n 1 "$tmp/out")"
    elif grep -q ^skipped "$tmp/out"; then
        skipped "$name" "$(sed -n 's/^skipped: //p' "$tmp/out")"
    else
        not_ok "$name" "env $* build/fuzz_cpu"
        tail -n 60 "$tmp/out"
    fi
}
run "single instructions" SEED=1 CASES=1000000 SEQS=0
run "sequences" SEED=1 CASES=0 SEQS=80000
run "single instructions, 32-bit" MODE=32 SEED=1 CASES=200000 SEQS=0 PROGS=0
run "sequences, 32-bit" MODE=32 SEED=1 CASES=0 SEQS=40000
finish
