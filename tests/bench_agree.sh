#!/bin/bash
# The benchmark programs, short: every kernel and every program computes the same natively, in a
# unikernel and in Debian's kernel under bt. And each nanobenchmark does what it is about. No timing.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck disable=SC2034 # places.sh reads it
LIMIT=120
. tests/bench/places.sh
places="native unikernel mayfly"

bench_prepare >"$tmp/prepare" 2>&1 || not_ok "bench initrd" "$(tail -n 1 "$tmp/prepare")"
[ -s .cache/vmlinuz ] || { places="native unikernel"; skipped "bench in Debian" "no kernel in .cache"; }
for place in $places; do
    if rows "$place" 2 40 1 >>"$tmp/rows" 2>"$tmp/why"; then
        ok "bench $place: $(grep -c "^$place " "$tmp/rows") rows"
    else
        not_ok "bench $place" "$(head -n 1 "$tmp/why")"
    fi
done
if awk -f tests/bench/compare.awk "$tmp/rows" >"$tmp/compared"; then
    ok "bench checksums are equal"
else
    not_ok "bench checksums" "$(grep -v '^note' "$tmp/compared" | head -n 3 | tr '\n' ';')"
fi
# The comparison must see a difference.
sed '0,/^unikernel fib [0-9a-f]/s//unikernel fib x/' "$tmp/rows" >"$tmp/broken"
if awk -f tests/bench/compare.awk "$tmp/broken" >"$tmp/compared"; then
    not_ok "bench comparison" "a changed checksum went through"
else
    ok "bench comparison sees a changed checksum"
fi
for engine in bt interp; do
    if "$tmp/mayfly" run --engine $engine --timeout 60 build/guests/nanobench </dev/null 2>"$tmp/err" |
        tr -d '\r' >"$tmp/nano" && [ "$(grep -c '^nano ' "$tmp/nano")" -eq 12 ] &&
        grep -q '^verdict: 12 passed, 0 failed' "$tmp/nano"; then
        ok "nanobench $engine"
    else
        not_ok "nanobench $engine" "$(grep '^FAIL' "$tmp/nano" | head -n 1) $(tail -n 1 "$tmp/err")"
    fi
done
finish
