#!/bin/bash
# The example guests of guests/ and what of the runtime they stand on: disks.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
g=build/guests p=build/progs
mkdir -p $p

# --- disks of the runtime: /dev/vda as a file of the host is ---------------------------------------
musl-gcc -O1 -static -o $p/disk tests/progs/disk.c || not_ok "build disk" ""
for engine in bt interp; do
    head -c 99840 /dev/urandom >"$tmp/disk"
    cp "$tmp/disk" "$tmp/file"
    $p/disk "$tmp/file" 7 >"$tmp/want"
    "$mayfly" run --engine $engine --timeout 60 --disk "$tmp/disk" $p/disk /dev/vda 7 >"$tmp/out" 2>"$tmp/err"
    got=$?
    if [ $got -eq 0 ] && cmp -s "$tmp/want" "$tmp/out" && cmp -s "$tmp/disk" "$tmp/file"; then
        ok "$engine disk: as a file is"
    else
        not_ok "$engine disk: as a file is" "status $got: $(head -n 3 "$tmp/out" "$tmp/err")"
    fi
done
truncate -s 512 "$tmp/small"
"$mayfly" run --timeout 20 --disk "$tmp/small" --disk "$tmp/disk,ro" /bin/busybox sha256sum /dev/vda /dev/vdb >"$tmp/out" 2>"$tmp/err"
if [ "$(cut -d ' ' -f 1 "$tmp/out")" = "$(sha256sum <"$tmp/small" | cut -d ' ' -f 1)
$(sha256sum <"$tmp/disk" | cut -d ' ' -f 1)" ]; then ok "two disks"; else not_ok "two disks" "$(head -c 300 "$tmp/out" "$tmp/err")"; fi
"$mayfly" run --timeout 20 --disk "$tmp/disk,ro" /bin/busybox dd if=/dev/zero of=/dev/vda count=1 conv=notrunc >"$tmp/out" 2>"$tmp/err"
got=$?
if [ $got -eq 1 ] && grep -q 'not permitted' "$tmp/err" && cmp -s "$tmp/disk" "$tmp/file"; then ok "a read-only disk"; else not_ok "a read-only disk" "status $got: $(cat "$tmp/err")"; fi

# --- kv ---------------------------------------------------------------------------------------------
disk=$tmp/kv.disk
kv() { "$mayfly" run --timeout 60 --disk "$disk" "$@" $g/kv /dev/vda 2>"$tmp/err"; }
fresh() {
    rm -f "$disk"
    truncate -s "$1" "$disk"
}

# The same lines, on the host and in the machine, cut in runs; 256 KiB fill up some times.
for i in $(seq 1 1200); do
    case $((i % 7)) in
    3) echo "delete key$((i % 41))" ;;
    5) echo "get key$((i % 37))" ;;
    *) printf 'put key%d value %d of %0*d\n' $((i % 41)) $i $((i % 900)) $i ;;
    esac
done >"$tmp/lines"
echo list >>"$tmp/lines"
truncate -s 256K "$tmp/kv.file"
fresh 256K
for from in 1 401 801; do
    sed -n "$from,$((from + 400))p" "$tmp/lines" | $g/kv "$tmp/kv.file" 2>/dev/null
done >"$tmp/want"
for from in 1 401 801; do
    sed -n "$from,$((from + 400))p" "$tmp/lines" | kv
done >"$tmp/out"
if cmp -s "$tmp/want" "$tmp/out" && grep -q '^ok [1-9]' "$tmp/out" && ! grep -q error "$tmp/out"; then
    ok "kv: as on the host"
else
    not_ok "kv: as on the host" "$(diff "$tmp/want" "$tmp/out" | head -n 3) $(grep -m 1 error "$tmp/out")"
fi
if [ "$(echo list | $g/kv "$disk" 2>/dev/null)" = "$(echo list | kv)" ]; then ok "kv: the host reads its disk"; else not_ok "kv: the host reads its disk" ""; fi

# What was acknowledged survives kill -9: puts go on until the kill; then each acknowledged one must
# be there, and perhaps some whose answer was still under way.
fresh 256K
lost=
acked=0
for round in 1 2 3 4 5 6; do
    : >"$tmp/acks"
    "$mayfly" run --timeout 60 --disk "$disk" $g/kv /dev/vda >"$tmp/acks" 2>"$tmp/err" \
        < <(n=$acked; while echo "put last $((++n)) $(printf %0$((n % 300))d 0)" 2>/dev/null; do :; done) &
    pid=$!
    for _ in $(seq 100); do # some first
        [ "$(wc -l <"$tmp/acks")" -gt $((20 * round)) ] && break
        sleep 0.02
    done
    kill -9 $pid
    wait $pid 2>/dev/null
    acked=$((acked + $(grep -c '^ok$' "$tmp/acks")))
    last=$(echo 'get last' | kv | cut -d ' ' -f 2)
    if ! [ "$last" -ge $acked ] || [ "$last" -gt $((acked + 1000)) ]; then
        lost="round $round: $acked acknowledged, $last there"
        break
    fi
    acked=$last
done 2>/dev/null
if [ -z "$lost" ] && [ $acked -gt 100 ]; then ok "kv: acknowledged puts survive kill -9"; else not_ok "kv: acknowledged puts survive kill -9" "$lost (in all $acked)"; fi

# A log with a damaged end: what is before it stays, what comes next is kept.
fresh 256K
printf 'put a 1\nput b 2\nput c 3333333\n' | kv >/dev/null
at=$(grep -abo 3333333 "$disk" | head -n 1 | cut -d : -f 1)
printf X | dd of="$disk" bs=1 seek=$((at + 3)) conv=notrunc status=none
printf 'list\nput d 4\n' | kv >"$tmp/out"
printf 'list\nget d\n' | kv >>"$tmp/out"
if [ "$(tr '\n' ' ' <"$tmp/out")" = "key a key b ok 2 ok key a key b key d ok 3 value 4 " ]; then ok "kv: a torn record ends the log"; else not_ok "kv: a torn record ends the log" "$(tr '\n' ' ' <"$tmp/out")"; fi

# Full, and room again.
fresh 64K
{ for i in $(seq 1 40); do echo "put k$i $(printf %01000d $i)"; done; for i in $(seq 1 40); do echo "delete k$i"; done; echo 'put again 1'; echo list; } | kv >"$tmp/out"
if grep -q '^error: the store is full$' "$tmp/out" && [ "$(tail -n 3 "$tmp/out" | tr '\n' ' ')" = "ok key again ok 1 " ]; then ok "kv: full"; else not_ok "kv: full" "$(tail -n 3 "$tmp/out")"; fi

refuses() { # NAME PATTERN: kv says so in one line, status 1
    kv </dev/null >"$tmp/out"
    local got=$?
    if [ $got -eq 1 ] && grep -q "$2" "$tmp/err" && [ "$(wc -l <"$tmp/err")" -eq 1 ]; then ok "kv: $1"; else not_ok "kv: $1" "status $got: $(cat "$tmp/err")"; fi
}
fresh 4K
refuses "a small disk" 'too small'
head -c 70144 /dev/urandom >"$disk"
refuses "a disk with something else" 'something else'
if [ "$(echo list | "$mayfly" run --timeout 60 --disk "$disk" $g/kv --format /dev/vda 2>/dev/null)" = "ok 0" ]; then ok "kv: --format"; else not_ok "kv: --format" ""; fi
"$mayfly" run --timeout 20 $g/kv /dev/vda </dev/null >"$tmp/out" 2>"$tmp/err"
if [ $? -eq 1 ] && grep -q 'No such file' "$tmp/err"; then ok "kv: no disk"; else not_ok "kv: no disk" "$(cat "$tmp/err")"; fi
finish
