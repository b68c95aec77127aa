#!/bin/bash
# shellcheck source=tests/lib.sh disable=SC2086,SC2317
# Debian's drivers of the console, entropy and balloon devices, under bt: hvc0 both ways with and
# without a reader, its size, /dev/hwrng, and memory that comes back to the host.
. "$(dirname "$0")/lib.sh"
engine=${ENGINE:-bt}
vmlinuz=.cache/vmlinuz
append="console=ttyS0 panic=-1 reboot=t"

needs_debian "virtio_small" "$vmlinuz"
export MODULES="char/virtio_console char/hw_random/virtio-rng virtio/virtio_balloon"

# initrd NAME <SCRIPT: $tmp/NAME.img, which runs it
initrd() {
    cat >"$tmp/$1.script"
    tests/guest_initrd.sh "$tmp/$1.img" "$tmp/$1.script"
}
# run NAME OPTION…: output in $tmp/NAME.out without CRs, stderr in $tmp/NAME.err
run() {
    local name=$1
    shift
    # shellcheck disable=SC2086
    "$mayfly" run --engine "$engine" -m 256M --timeout 200 "$@" --initrd "$tmp/$name.img" $vmlinuz $append \
        2>"$tmp/$name.err" | tr -d '\r' >"$tmp/$name.out"
}
# Wait until $tmp/FILE has LINE, up to 100 s.
await() {
    local i
    for ((i = 0; i < 1000; i++)); do
        grep -aqs "$2" "$tmp/$1" && return 0
        sleep 0.1
    done
    return 1
}
expect() { # NAME FILE LINE
    if grep -aqx "$3" "$tmp/$2"; then ok "$1"; else
        not_ok "$1" "no '$3': $(grep -a '^T:' "$tmp/$2" | tail -n 3 | tr '\n' '|') $(tail -n 1 "$tmp/${2%.out}.err" | cut -c1-200)"
    fi
}

# --- options ---

refused() { # NAME OPTION
    "$mayfly" run "$2" hello >"$tmp/o" 2>"$tmp/e" </dev/null
    local status=$?
    if [ $status -eq 125 ] && grep -q "^mayfly: $2" "$tmp/e" && [ ! -s "$tmp/o" ]; then ok "$1"; else
        not_ok "$1" "status $status: $(head -n 1 "$tmp/e")"
    fi
}
refused "no such console" --console=vga
refused "rng takes no value" --rng=1
refused "balloon: not a size" --balloon=lots
refused "balloon: 0 s between statistics" --balloon=1M,stats=0
"$mayfly" run -m 64M --balloon=65M hello >"$tmp/o" 2>"$tmp/e" </dev/null
status=$?
if [ $status -eq 125 ] && [ ! -s "$tmp/o" ] && grep -q "^mayfly: --balloon=65M: more than the guest's memory, 64 MiB; give less" "$tmp/e" &&
    [ "$(wc -l <"$tmp/e")" -eq 1 ]; then ok "balloon larger than RAM"; else
    not_ok "balloon larger than RAM" "status $status: $(head -n 1 "$tmp/e")"
fi

# --- hvc0 and entropy ---

initrd hvc <<'SCRIPT'
echo "T: rng $(cat /sys/class/misc/hw_random/rng_current)"
dd if=/dev/hwrng of=/tmp/a bs=4096 count=8 iflag=fullblock 2>/dev/null
dd if=/dev/hwrng of=/tmp/b bs=4096 count=8 iflag=fullblock 2>/dev/null
echo "T: entropy $(cat /tmp/a | wc -c) $(gzip -c /tmp/a | wc -c) $(cmp -s /tmp/a /tmp/b && echo same || echo other)"
exec </dev/hvc0 >/dev/hvc0 2>&1
stty raw -echo
echo "T: ready"
read line
echo "T: line $line"
echo "T: sum $(head -c 200000 | sha256sum | cut -d' ' -f1)"
echo "T: out"
seq 1 40000
echo "T: end"
SCRIPT
seq 100000 199999 | head -c 200000 >"$tmp/bulk"
sum=$(sha256sum <"$tmp/bulk" | cut -d' ' -f1)

hvc() { # NAME READER [ENV]
    local name=$1 reader=$2
    (
        await hvc.live "^T: ready" || exit
        echo "hello hvc0"
        cat "$tmp/bulk"
        await hvc.live "^T: end"
    ) | env ${3:-A=} "$mayfly" run --engine "$engine" -m 256M --timeout 200 --console --rng --stats="$tmp/stats" \
        --initrd "$tmp/hvc.img" $vmlinuz $append 2>"$tmp/hvc.err" |
        $reader | tr -d '\r' >"$tmp/hvc.out"
    expect "$name: a line in" hvc.out "T: line hello hvc0"
    expect "$name: 200 kB in" hvc.out "T: sum $sum"
    if sed -n '/^T: out$/,/^T: end$/p' "$tmp/hvc.out" | grep -v '^T:' | cmp -s - <(seq 1 40000); then
        ok "$name: 230 kB out"
    else
        not_ok "$name: 230 kB out" "$(sed -n '/^T: out$/,/^T: end$/p' "$tmp/hvc.out" | wc) lines, words, bytes"
    fi
}
plain() { tee "$tmp/hvc.live"; }
# Nobody reads for 3 s once the flood has begun: the guest waits, and nothing is lost.
slow() {
    local line
    while IFS= read -r line; do
        printf '%s\n' "$line"
        printf '%s\n' "$line" >>"$tmp/hvc.live"
        case $line in "T: out"*) break ;; esac
    done
    sleep 3
    tee -a "$tmp/hvc.live"
}
rm -f "$tmp/hvc.live"
hvc "hvc0" plain
expect "entropy: the driver's choice" hvc.out "T: rng virtio_rng.0"
read -r _ _ size packed same <<<"$(grep -a '^T: entropy' "$tmp/hvc.out")"
if [ "${size:-0}" -eq 32768 ] && [ "${packed:-0}" -ge 32768 ] && [ "$same" = other ]; then
    ok "entropy: 32 KiB twice"
else
    not_ok "entropy: 32 KiB twice" "$(grep -a '^T: entropy' "$tmp/hvc.out")"
fi
rm -f "$tmp/hvc.live"
hvc "hvc0 without io_uring, slow reader" slow MAYFLY_NO_IO_URING=1

# --- without a driver the serial port has stdin ---

initrd serial <<'SCRIPT'
rmmod virtio_console
stty -echo
echo "T: ready"
read line
echo "T: serial $line"
SCRIPT
(
    await serial.raw "^T: ready"
    echo "to ttyS0"
    await serial.raw "^T: serial"
) | "$mayfly" run --engine "$engine" -m 256M --timeout 200 --console --initrd "$tmp/serial.img" $vmlinuz $append \
    >"$tmp/serial.raw" 2>"$tmp/serial.err"
tr -d '\r' <"$tmp/serial.raw" >"$tmp/serial.out"
expect "a guest without hvc0 reads the serial port" serial.out "T: serial to ttyS0"

# --- size: mayfly on a terminal that changes ---

initrd size <<'SCRIPT'
echo "T: first $(stty size </dev/hvc0)" >/dev/hvc0
i=0
while [ $i -lt 600 ] && [ "$(stty size </dev/hvc0)" != "44 102" ]; do sleep 0.1; i=$((i + 1)); done
echo "T: second $(stty size </dev/hvc0)" >/dev/hvc0
SCRIPT
if command -v script >/dev/null; then
    cat >"$tmp/size.sh" <<END
stty rows 33 cols 101
tty=\$(tty)
(
    for i in \$(seq 1000); do
        grep -aqs "^T: first" "$tmp/size.raw" && break
        sleep 0.1
    done
    stty -F "\$tty" rows 44 cols 102
) </dev/null >/dev/null 2>&1 &
exec "$mayfly" run --engine $engine -m 256M --timeout 120 --console --initrd "$tmp/size.img" $vmlinuz $append
END
    script -qfc "bash $tmp/size.sh" "$tmp/size.raw" </dev/null >/dev/null 2>"$tmp/size.err"
    tr -d '\r' <"$tmp/size.raw" >"$tmp/size.out"
    expect "hvc0 has the terminal's size" size.out "T: first 33 101"
    expect "hvc0 follows it" size.out "T: second 44 102"
else
    skipped "hvc0's size" "no script(1)"
fi

# --- balloon ---

rss() { awk '/^VmRSS/{print $2}' "/proc/$pid/status" 2>/dev/null || echo 0; }
# At most so many kB within 60 s.
falls_to() {
    local i
    for ((i = 0; i < 600; i++)); do
        [ "$(rss)" -le "$1" ] && return 0
        sleep 0.1
    done
    return 1
}
initrd balloon <<'SCRIPT'
mkdir -p /big
mount -t tmpfs -o size=300m none /big
echo "T: start"
read x
dd if=/dev/zero of=/big/f bs=1M count=200 2>/dev/null
echo "T: filled"
read x
rm /big/f
echo "T: freed"
read x
dd if=/dev/zero of=/big/f bs=1M count=200 2>/dev/null
tr '\0' x </big/f | sha256sum >/tmp/sum
echo "T: again $(cut -c1-64 /tmp/sum)"
SCRIPT
mkfifo "$tmp/in"
"$mayfly" run --engine "$engine" -m 512M --timeout 300 --balloon --stats="$tmp/stats" --initrd "$tmp/balloon.img" \
    $vmlinuz $append <"$tmp/in" >"$tmp/balloon.raw" 2>"$tmp/balloon.err" &
pid=$!
exec 9>"$tmp/in"
await balloon.raw "^T: start" && echo >&9
await balloon.raw "^T: filled"
full=$(rss)
echo >&9
await balloon.raw "^T: freed"
# Half of what the guest freed is the least that has to come back.
if [ "$full" -gt 204800 ] && falls_to $((full - 102400)); then
    ok "balloon: free pages go back to the host (RSS $full kB to $(rss) kB)"
else
    not_ok "balloon: free pages go back to the host" "RSS $full kB, then $(rss) kB"
fi
echo >&9
wait $pid
status=$?
exec 9>&-
tr -d '\r' <"$tmp/balloon.raw" >"$tmp/balloon.out"
expect "balloon: pages that went back are used again" balloon.out \
    "T: again $(head -c 209715200 /dev/zero | tr '\0' x | sha256sum | cut -d' ' -f1)"
if [ $status -eq 0 ] && grep -q '"reported_pages"' "$tmp/stats"; then ok "balloon: counted"; else
    not_ok "balloon: counted" "status $status"
fi

initrd target <<'SCRIPT'
pages() { sed -n 's/^balloon_inflate //p' /proc/vmstat; }
i=0
while [ $i -lt 600 ] && [ "$(pages)" -lt 25600 ]; do sleep 0.1; i=$((i + 1)); done
echo "T: inflated $(pages)"
sleep 2 # the driver says so after the last of them
SCRIPT
run target --balloon=100M,stats=1 --stats="$tmp/stats" </dev/null
expect "balloon: a size from the start" target.out "T: inflated 25600"
numbers=$(tr -d ' \n' <"$tmp/stats" | grep -o '"balloon0":{[^}]*}')
if [[ $numbers == *'"actual_pages":25600,"inflated_pages":25600'* ]]; then ok "balloon: the guest says how much"; else
    not_ok "balloon: the guest says how much" "$numbers"
fi
finish
