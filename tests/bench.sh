#!/bin/bash
# Wall time from exec to exit, medians: hello (mayfly's runtime guest, and a multiboot image that
# QEMU's TCG runs too), and Debian's kernel to user space and power-off. RUNS and BOOTS set the
# counts. The two programs take turns, so that a busy machine is unfair to both alike.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
runs=${RUNS:-50} boots=${BOOTS:-5}
timeit=build/timeit
vmlinuz=.cache/vmlinuz initrd=build/initrd.gz
append="console=ttyS0 panic=-1 reboot=t t=boot"
qemu=$(command -v qemu-system-x86_64)
tcg=(-M q35 -accel "tcg,thread=single" -cpu max -nodefaults -display none -serial stdio)

# row NAME COUNT PATTERN COMMAND…: one line; the median stays in $median (0: it failed). The command
# must print PATTERN, or it did not do what is measured.
row() {
    local name=$1 count=$2 pattern=$3 line min max
    shift 3
    median=0
    if ! "$@" </dev/null 2>"$tmp/err" | grep -q -- "$pattern"; then
        echo "  $name: failed: it did not print '$pattern'; $(head -n 1 "$tmp/err")"
    elif line=$($timeit "$count" "$@" 2>"$tmp/err"); then
        read -r median min max <<<"$line"
        awk -v n="$name" -v m="$median" -v l="$min" -v h="$max" \
            'BEGIN { printf "  %-44s %10.2f ms   (%.2f - %.2f)\n", n, m / 1000, l / 1000, h / 1000 }'
    else
        echo "  $name: failed: $(cat "$tmp/err")"
    fi
}
ratio() { # NAME A B: how many times A is of B
    [ "$2" -eq 0 ] || [ "$3" -eq 0 ] ||
        awk -v n="$1" -v a="$2" -v b="$3" 'BEGIN { printf "  %-44s %10.2f times\n", n, a / b }'
}

echo "host: $("$mayfly" check | sed -n 's/^cpu *//p'), $(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg)"
echo "hello, median of $runs (min - max):"
row "mayfly hello, auto" "$runs" 'hello' "$mayfly" run hello
auto=$median
row "mayfly hello, bt" "$runs" 'hello' "$mayfly" run --engine bt hello
row "mayfly hello, interp" "$runs" 'hello' "$mayfly" run --engine interp hello
row "mayfly hello on serial (multiboot), bt" "$runs" 'hello' "$mayfly" run --engine bt build/guests/kvm/hello
multiboot=$median
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
    row "mayfly hello on serial (multiboot), kvm" "$runs" 'hello' "$mayfly" run --engine kvm build/guests/kvm/hello
fi
if [ -n "$qemu" ]; then
    row "QEMU q35 TCG, the same multiboot image" $(((runs + 4) / 5)) 'hello' "$qemu" "${tcg[@]}" -m 128M \
        -device "isa-debug-exit,iobase=0xf4,iosize=4" -kernel build/guests/kvm/hello
    ratio "QEMU / mayfly bt, multiboot hello" "$median" "$multiboot"
    ratio "QEMU / mayfly auto, hello" "$median" "$auto"
else
    echo "  QEMU is not installed: nothing to compare with"
fi

if [ ! -s $vmlinuz ]; then
    echo "Debian boot: skipped, no kernel in .cache"
    finish
fi
echo "Debian $(cat .cache/release) to /init and power-off, 256M, median of $boots (min - max):"
row "mayfly bt, bzImage" "$boots" 'T: init' "$mayfly" run --engine bt -m 256M --initrd $initrd $vmlinuz $append
bt=$median
row "mayfly bt, vmlinux" "$boots" 'T: init' "$mayfly" run --engine bt -m 256M --initrd $initrd .cache/vmlinux $append
if [ -n "$qemu" ]; then
    row "QEMU q35 TCG, bzImage" "$boots" 'T: init' "$qemu" "${tcg[@]}" -m 256M -kernel $vmlinuz \
        -initrd $initrd -append "$append"
    ratio "QEMU / mayfly bt, bzImage" "$median" "$bt"
fi

# Exits of an idle guest: two runs, one of which sleeps for 10 s more; what they differ by is idling.
# Every HLT, port access and access to a virtio register counts.
exits_of() {
    awk '{ gsub(/[",:{}]/, " ") }
        /^ *[a-z]+0 *$/ || NF == 1 { section = $1; next }
        section == "exits" || section == "devices" || $1 == "exits" { n += $2 }
        END { print n }' "$tmp/stats"
}
idle() { # SECONDS: the exits of a run that sleeps so long
    echo "echo T: idle; sleep $1" >"$tmp/idle.script"
    MODULES="char/virtio_console char/hw_random/virtio-rng virtio/virtio_balloon" \
        tests/guest_initrd.sh "$tmp/idle.img" "$tmp/idle.script"
    "$mayfly" run --engine bt -m 256M --timeout 120 --console --rng --balloon --stats="$tmp/stats" \
        --initrd "$tmp/idle.img" $vmlinuz $append </dev/null 2>"$tmp/err" | grep 'T: idle' >/dev/null && exits_of
}
# The balloon's driver reports free memory in the seconds after boot: not idle yet.
short=$(idle 5) long=$(idle 15)
if [ -n "$short" ] && [ -n "$long" ]; then
    awk -v n=$((long - short)) 'BEGIN { printf "Idle Debian, hvc0, rng and balloon, bt: %d exits in 10 s, %.1f a second\n", n, n / 10 }'
else
    echo "idle: failed: $(head -n 1 "$tmp/err")"
fi
finish
