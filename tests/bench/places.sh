# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by bench_bt.sh and bench_agree.sh, after lib.sh: the four places the benchmark runs in.
# place_NAME REPS DIVISOR PROGRAM_REPS prints "row NAME CHECKSUM NANOSECONDS…" lines.
tree=$tmp/tree
append=(console=ttyS0 panic=-1 reboot=t)
limit=${LIMIT:-600}
qemu=$(command -v qemu-system-x86_64)
bench_tcg=(-M q35 -accel "tcg,thread=single" -cpu max -nodefaults -display none -serial stdio -m 256M)

bench_prepare() {
    tests/bench/tree.sh "$tree" "$tmp/initrd" && cp "$mayfly" "$tmp/mayfly" # it may be rebuilt meanwhile
}
place_native() {
    env -i PATH=/usr/bin:/bin "$tree/bench/inside.sh" "$tree/bin/benchbt" "$@"
}
place_unikernel() {
    "$tmp/mayfly" run --engine bt -m 256M --timeout "$limit" build/guests/benchbt -r "$1" -d "$2"
}
place_mayfly() {
    "$tmp/mayfly" run --engine bt -m 256M --timeout "$limit" --initrd "$tmp/initrd" .cache/vmlinuz \
        "${append[@]}" reps="$1" divisor="$2" programs="$3"
}
place_tcg() {
    timeout "$limit" "$qemu" "${bench_tcg[@]}" -kernel .cache/vmlinuz -initrd "$tmp/initrd" \
        -append "${append[*]} reps=$1 divisor=$2 programs=$3"
}
# rows PLACE REPS DIVISOR PROGRAM_REPS: its rows, the place's name before each; status 1 when it did
# not come to its end, or a kernel failed.
rows() {
    local place=$1
    shift
    "place_$place" "$@" </dev/null 2>"$tmp/$place.err" | tr -d '\r' >"$tmp/$place.out"
    sed -n "s/^row /$place /p" "$tmp/$place.out"
    if grep '^fail' "$tmp/$place.out" >&2 || ! grep -q '^end' "$tmp/$place.out"; then
        tail -n 2 "$tmp/$place.err" >&2
        return 1
    fi
}
