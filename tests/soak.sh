#!/bin/bash
# Many launches: none fails, nothing is left behind. `make soak` runs 10,000 in a row; as a test it
# is shorter. N: how many in a row (300), A: how many at once (100), D: how many with devices (20).
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
n=${N:-300} atonce=${A:-100} devices=${D:-20}
export MAYFLY_SOAK=$$.$RANDOM
mkdir "$tmp/dir" && echo shared >"$tmp/dir/file"

# What of ours is running: everything a launch starts inherits the mark.
ours() { env -u MAYFLY_SOAK grep -lsz "^MAYFLY_SOAK=$MAYFLY_SOAK\$" /proc/[0-9]*/environ | env -u MAYFLY_SOAK wc -l; }
kib() { awk -v k="$1:" '$1 == k { print $2 }' /proc/meminfo; }
files() { awk '{ print $1 }' /proc/sys/fs/file-nr; }
listing() { find /tmp /dev/shm /run -maxdepth 1 -name '*mayfly*' -o -maxdepth 1 -name '*passt*' 2>/dev/null | sort; }

build/launch 5 warm "$mayfly" run hello >/dev/null
before=$(listing) mem=$(kib MemAvailable) open=$(files)
fds=$(ls /proc/$$/fd | wc -l)

if build/launch "$n" hello "$mayfly" run hello >"$tmp/row" 2>"$tmp/err"; then
    ok "$n launches in a row ($(awk '{ printf "median %d us, at most %d us, %d KiB", $2, $5, $7 }' "$tmp/row"))"
else
    not_ok "$n launches in a row" "$(head -n 1 "$tmp/err")"
fi

seq "$atonce" | xargs -P "$atonce" -I{} sh -c '"$0" run hello {} >"$1/at.{}" 2>&1; echo $? >>"$1/at.{}"' \
    "$mayfly" "$tmp"
good=0
for i in $(seq "$atonce"); do
    [ "$(cat "$tmp/at.$i")" = "hello, world"$'\n'"$i"$'\n'0 ] && good=$((good + 1))
done
if [ $good -eq "$atonce" ]; then
    ok "$atonce launches at once"
else
    not_ok "$atonce launches at once" "$good of them said what they should"
fi

# repeat NAME WANT COMMAND...: $devices times, the same output and status 0 each time.
repeat() {
    local name=$1 want=$2 i out
    shift 2
    for ((i = 1; i <= devices; i++)); do
        if ! out=$(timeout 60 "$@" 2>"$tmp/err" </dev/null) || [ "$out" != "$want" ]; then
            not_ok "$name" "launch $i said '$out'; $(head -n 1 "$tmp/err")"
            return
        fi
    done
    ok "$devices launches with $name"
}
repeat "a shared directory" shared "$mayfly" run --share "$tmp/dir" /bin/busybox cat /host/file
truncate -s 1M "$tmp/disk"
repeat "a disk, entropy, a balloon" "hello, world" "$mayfly" run --disk "$tmp/disk" --rng --balloon hello
if command -v passt >/dev/null; then
    repeat "a user network" "hello, world" "$mayfly" run --net user hello
else
    skipped "launches with a user network" "no passt"
fi

for _ in 1 2 3 4 5 6 7 8 9 10; do # passt ends when it sees its socket closed
    [ "$(ours)" -eq 0 ] && break
    sleep 0.2
done
left=$(ours)
[ "$left" -eq 0 ] && ok "no process is left" || not_ok "no process is left" "$left are"
after=$(listing)
[ "$before" = "$after" ] && ok "no file is left" ||
    not_ok "no file is left" "$(diff <(echo "$before") <(echo "$after") | tr '\n' ' ')"
now=$(ls /proc/$$/fd | wc -l)
[ "$now" -eq "$fds" ] && ok "no descriptor is left" || not_ok "no descriptor is left" "$fds, then $now"
echo "open files on this host: $open before, $(files) after; memory available: $((mem / 1024)) MiB before," \
    "$(($(kib MemAvailable) / 1024)) MiB after"
finish
