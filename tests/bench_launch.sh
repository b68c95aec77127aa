#!/bin/bash
# Wall time from fork to reaped exit: hello as a native static program and as a unikernel; the least
# that /dev/kvm costs, without and with what no untrusted guest can do without (tests/kvm_floor.c),
# and the smallest guest on the kvm engine; a guest on the serial port under bt and under QEMU's TCG.
# TURNS (200) runs each, turn by turn; QEMU, which takes a hundred times longer, a tenth. Then the
# exits of a hello, and what memory of a waiting program is not its guest's.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
turns=${TURNS:-200}
guest=build/guests/kvm/hello
qemu=$(command -v qemu-system-x86_64)
kvm=
if [ -r /dev/kvm ] && [ -w /dev/kvm ] && build/kvm_floor 2>"$tmp/err"; then kvm=1; fi

echo "host: $("$mayfly" check | sed -n 's/^cpu *//p'), $(nproc) CPUs, load $(cut -d' ' -f1-3 /proc/loadavg)"
set -- native build/guests/hello \
    -- bt "$mayfly" run --engine bt hello \
    -- auto "$mayfly" run hello \
    -- interp "$mayfly" run --engine interp hello \
    -- serial-bt "$mayfly" run --engine bt $guest
build/launch "$turns" "$@" >"$tmp/rows" || { echo "failed"; exit 1; }
# How long ago the last VM ended changes what the next one takes: the same for all.
if [ -n "$kvm" ]; then
    build/launch "$turns" between sleep 0.003 -- kvm-floor build/kvm_floor \
        -- between sleep 0.003 -- kvm-confined build/kvm_floor confined \
        -- between sleep 0.003 -- quit-kvm "$mayfly" run --engine kvm build/guests/kvm/quit \
        >>"$tmp/rows" || { echo "failed"; exit 1; }
fi
if [ -n "$qemu" ]; then
    build/launch $(((turns + 9) / 10)) serial-qemu "$qemu" -M q35 -accel tcg,thread=single -cpu max -nodefaults \
        -display none -serial stdio -m 128M -device isa-debug-exit,iobase=0xf4,iosize=4 -kernel $guest \
        >>"$tmp/rows" || echo "QEMU failed"
fi
awk '
    BEGIN { printf "%-12s %9s %9s %9s %9s %9s %9s %7s\n", "us", "median", "min", "p90", "max", "CPU", "RSS KiB", "faults" }
    $1 == "between" { next }
    { printf "%-12s %9d %9d %9d %9d %9d %9d %7d\n", $1, $2, $3, $4, $5, $6, $7, $8; m[$1] = $2; l[$1] = $3 }
    function bar(name, v, unit, limit) {
        printf "%-44s %8.2f %s, bar %.2f: %s\n", name, v, unit, limit, v <= limit ? "met" : "missed"
    }
    END {
        bar("bt hello above native, medians", (m["bt"] - m["native"]) / 1000, "ms", 1)
        bar("bt hello above native, minima", (l["bt"] - l["native"]) / 1000, "ms", 1)
        if (m["kvm-floor"]) {
            bar("kvm, small guest / floor, medians", m["quit-kvm"] / m["kvm-floor"], "times", 1.25)
            bar("kvm, small guest / floor, minima", l["quit-kvm"] / l["kvm-floor"], "times", 1.25)
            printf "%-44s %8.2f times\n", "the same / one confined, with a CPUID, medians",
                m["quit-kvm"] / m["kvm-confined"]
        }
        if (m["serial-qemu"])
            printf "%-44s %8.1f times\n", "QEMU / bt, the same guest, medians", m["serial-qemu"] / m["serial-bt"]
    }' "$tmp/rows"

# What leaves the guest for the monitor by a port is an exit on kvm, whichever engine counts it.
"$mayfly" run --engine bt --stats="$tmp/stats" hello >/dev/null
tr -d ' \n' <"$tmp/stats" | sed 's/.*"pio_writes":\([0-9]*\).*/\1/' |
    awk '{ printf "%-44s %8d, bar 3: %s\n", "exits of hello", $1, $1 <= 3 ? "met" : "missed" }'

# A program that waits for its input: what of its resident pages is guest RAM, and what is mayfly.
mkfifo "$tmp/in"
"$mayfly" run --engine bt build/guests/check echo <"$tmp/in" >/dev/null 2>&1 &
pid=$!
exec 9>"$tmp/in"
sleep 0.3
awk '/^[0-9a-f]+-[0-9a-f]+ / { guest = $1 ~ /^20000000-/ } /^Rss:/ { all += $2; if (guest) ram += $2 }
    END { printf "resident while it waits: %d KiB, of it guest RAM %d, beyond it %d KiB, bar 4096: %s\n",
          all, ram, all - ram, all - ram <= 4096 ? "met" : "missed" }' "/proc/$pid/smaps"
exec 9>&-
kill $pid 2>/dev/null
wait $pid 2>/dev/null
finish
