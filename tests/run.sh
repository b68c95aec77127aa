#!/bin/bash
# run.sh [--units-only] UNIT…: every unit test program named, then every shell test, then the sum:
# "N passed, N failed[, N skipped]". Output of each goes to build/test/NAME.log; failures are shown.
set -u
cd "$(dirname "$0")/.." || exit 1
units_only=false
if [ "${1:-}" = --units-only ]; then
    units_only=true
    shift
fi
logs=build/test
mkdir -p $logs
passed=0 failed=0 skipped=0
helpers=" run.sh lib.sh net_lib.sh blk_lib.sh bench_net.sh bench_blk.sh bench_fs.sh guest_initrd.sh deps.sh kernel.sh extract-vmlinux.sh initrd.sh bench.sh bench_bt.sh bench_launch.sh bench_smp.sh nanobench.sh fuzz.sh "

# A Criterion program: its own count.
unit() {
    local name log status numbers
    name=$(basename "$1") log=$logs/$name.log
    timeout 600 "$1" >"$log" 2>&1 </dev/null
    status=$?
    numbers=$(sed -n 's/.*Tested:[^0-9]*\([0-9]*\).*Passing:[^0-9]*\([0-9]*\).*Failing:[^0-9]*\([0-9]*\).*Crashing:[^0-9]*\([0-9]*\).*/\1 \2 \3 \4/p' \
        <(sed 's/\x1b\[[0-9;]*m//g' "$log") | tail -n 1)
    local pass=0 fail=0 crash=0
    read -r _ pass fail crash <<<"$numbers"
    if [ -z "$numbers" ] || { [ $status -ne 0 ] && [ $((fail + crash)) -eq 0 ]; }; then
        fail=$((fail + 1)) # died outside a test
    fi
    passed=$((passed + ${pass:-0}))
    failed=$((failed + ${fail:-0} + ${crash:-0}))
    echo "$name: ${pass:-0} passed, $((fail + crash)) failed"
    [ $((fail + crash)) -eq 0 ] || sed 's/^/    /' "$log" | tail -n 40
    grep -h '^skipped' "$log"
    skipped=$((skipped + $(grep -c '^skipped' "$log")))
}

# A shell test: its "ok", "not ok", "skipped" lines, or its status where it prints none.
script() {
    local name log status pass fail skip
    name=$(basename "$1" .sh) log=$logs/$name.log
    timeout 840 "$1" >"$log" 2>&1 </dev/null
    status=$?
    pass=$(grep -c '^ok ' "$log")
    fail=$(grep -c '^not ok ' "$log")
    skip=$(grep -c '^skipped' "$log")
    if [ $((pass + fail + skip)) -eq 0 ]; then
        if [ $status -eq 0 ]; then pass=1; else fail=1; fi
    elif [ $status -ne 0 ] && [ "$fail" -eq 0 ]; then
        fail=1 # it stopped half way
    fi
    passed=$((passed + pass)) failed=$((failed + fail)) skipped=$((skipped + skip))
    echo "$name: $pass passed, $fail failed$([ "$skip" -eq 0 ] || echo ", $skip skipped")"
    grep -h -E '^(not ok|skipped)' "$log" | sed 's/^/    /'
    [ "$fail" -eq 0 ] || { echo "    log: $log"; grep -q '^not ok' "$log" || tail -n 20 "$log" | sed 's/^/    /'; }
}

for u in "$@"; do
    unit "$u"
done
if ! $units_only; then
    for s in tests/*.sh; do
        [[ $helpers == *" $(basename "$s") "* ]] || script "$s"
    done
fi
line="$passed passed, $failed failed"
[ $skipped -eq 0 ] || line+=", $skipped skipped"
echo "$line"
[ $failed -eq 0 ]
