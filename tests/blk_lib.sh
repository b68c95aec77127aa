# shellcheck shell=bash disable=SC2034,SC2086
# Sourced after lib.sh by what tests --disk: Debian's guest with tests/virtio_blk.guest in it.
engine=${ENGINE:-bt}
kernel=.cache/vmlinux
append="console=ttyS0 panic=-1 reboot=t quiet"

refuses() { refused "blk refuses $1" "^mayfly: $2" "${@:3}"; } # NAME PATTERN OPTION…

# Why there is no Debian guest here; empty: there is.
no_guest() {
    if [ ! -s $kernel ] || [ ! -d .cache/root ]; then
        echo "no Debian kernel in .cache (tests/kernel.sh)"
    elif ! command -v mke2fs >/dev/null; then
        echo "no mke2fs (e2fsprogs)"
    fi
}
blk_initrd() {
    musl-gcc -static -O2 -D_GNU_SOURCE -idirafter /usr/include \
        -idirafter /usr/include/x86_64-linux-gnu -o "$tmp/aioread" tests/aioread.c &&
        tests/guest_initrd.sh "$tmp/initrd" tests/virtio_blk.guest "$tmp/aioread"
}

# guest CASE [OPTION…]: run it; its lines are in $tmp/text, numbers in $tmp/stats
guest() {
    local t=$1
    shift
    timeout 120 "$mayfly" run --engine "$engine" -m 256M --timeout 100 --initrd "$tmp/initrd" \
        --stats="$tmp/stats" "$@" $kernel $append "t=$t" <"${input:-/dev/null}" >"$tmp/out" 2>"$tmp/err"
    local status=$?
    tr -d '\r' <"$tmp/out" | grep '^T: ' >"$tmp/text"
    return $status
}
stat_of() { # SECTION NAME
    python3 -c 'import json,sys; print(json.load(open(sys.argv[1])).get(sys.argv[2],{}).get(sys.argv[3],0))' \
        "$tmp/stats" "$1" "$2"
}
clean() { e2fsck -fn "$1" >"$tmp/fsck" 2>&1; }
why() { echo "$(tr '\n' ' ' <"$tmp/text" | cut -c1-150) $(head -c 150 "$tmp/err")"; }

image() { # FILE MIB [DIR]
    rm -f "$1"
    truncate -s "$2M" "$1" && mke2fs -q -F -t ext4 ${3:+-d "$3"} "$1"
}

# power_offs NAME CASE TIMES: so often the power goes in the middle of writes to $tmp/disk: what was
# synced is there, and the file system too.
power_offs() {
    local name="blk power-offs, $1" total=0 i n pid last got
    for i in $(seq "$3"); do
        : >"$tmp/out"
        "$mayfly" run --engine "$engine" -m 256M --timeout 60 --initrd "$tmp/initrd" \
            --disk "$tmp/disk" $kernel $append "t=$2" </dev/null >"$tmp/out" 2>"$tmp/err" &
        pid=$!
        for _ in $(seq 1100); do
            [ "$(grep -c '^T: synced' "$tmp/out")" -ge $((i % 4 + 2)) ] && break
            sleep 0.05
        done
        sleep "0.0$((i % 10))"
        kill -9 $pid
        wait $pid 2>/dev/null
        last=$(tr -d '\r' <"$tmp/out" | sed -n 's/^T: synced \([0-9]*\)$/\1/p' | tail -n 1)
        if [ -z "$last" ]; then
            not_ok "$name" "round $i: nothing was written: $(tail -n 2 "$tmp/out" | cut -c1-100) $(head -c 150 "$tmp/err")"
            return
        fi
        e2fsck -p "$tmp/disk" >"$tmp/fsck" 2>&1 # replays the journal, as a boot would
        if [ $? -gt 1 ] || ! clean "$tmp/disk"; then
            not_ok "$name" "round $i: fsck: $(tail -n 1 "$tmp/fsck")"
            return
        fi
        for n in $(seq $((total + 1)) "$last"); do
            got=$(debugfs -R "cat f/$n" "$tmp/disk" 2>/dev/null | head -n 1)
            [ "$got" = "$n" ] || { not_ok "$name" "round $i: file $n is lost"; return; }
        done
        total=$last
    done
    ok "$name: $total synced files after $3 of them, fsck clean"
}
