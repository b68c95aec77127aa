#!/bin/bash
# `make nanobench`: guests/nanobench on every engine, and natively where a process can do the same.
# TSC cycles an operation: the least of many batches, the median in brackets. Beside them the figures
# of 2006 (3.8 GHz Pentium 4; as quoted by later literature, so take them as approximate; which of the
# fault rows they are of, CPL 0 or 3, is not said, so both stand against them). The bars decide
# nothing; the status is 1 when a row fails under bt or interp.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
image=build/guests/nanobench
rows="loop syscall in cr8wr callret callret-user pgfault pgfault-user divzero divzero-user ptemod ptemod-invlpg-use"
cp "$mayfly" "$tmp/mayfly" && mayfly=$tmp/mayfly # it may be rebuilt meanwhile
qemu=$(command -v qemu-system-x86_64)

machine() {
    echo "$1: $("$mayfly" check | sed -n 's/^cpu *//p'), $("$mayfly" check | sed -n 's/^tsc *//p'), load $(cut -d' ' -f1-3 /proc/loadavg)"
}
machine "before"
build/guests/nanobench-host | sed -n 's/^nano /native /p' >"$tmp/rows"
for engine in bt interp kvm; do
    [ $engine != kvm ] || { [ -r /dev/kvm ] && [ -w /dev/kvm ]; } || continue
    for row in $rows; do # one machine a row: what a KVM cannot do costs that row alone
        if "$mayfly" run --engine $engine --timeout 20 $image "$row" </dev/null >"$tmp/out" 2>"$tmp/err"; then
            tr -d '\r' <"$tmp/out" | sed -n "s/^nano /$engine /p; s/^none /none $engine /p" >>"$tmp/rows"
        elif [ $engine != kvm ]; then
            not_ok "$engine $row" "$(tail -n 1 "$tmp/out") $(tail -n 1 "$tmp/err")"
        else
            echo "note: $row does not come to its end on this KVM"
        fi
    done
done
if [ -n "$qemu" ]; then
    timeout 100 "$qemu" -M q35 -accel tcg,thread=single -cpu max -nodefaults -display none -serial stdio \
        -m 128M -device isa-debug-exit,iobase=0xf4,iosize=4 -kernel $image </dev/null 2>/dev/null |
        tr -d '\r' | sed -n 's/^nano /tcg /p' >>"$tmp/rows"
fi
awk -v rows="$rows" '
function cell(e, n) {
    return (e, n) in least ? sprintf("%.1f [%.1f]", least[e, n], median[e, n]) signal[e, n] : "-"
}
function bar(text, v, limit) {
    bars = bars sprintf("  %-46s %9.1f < %-9.1f %s\n", text, v, limit, v < limit ? "met" : "not met")
}
$1 == "none" {
    why[$2, $3] = $4
    for (i = 5; i <= NF; i++)
        why[$2, $3] = why[$2, $3] " " $i
    next
}
{
    least[$1, $2] = $3
    median[$1, $2] = $4
}
END {
    split("syscall 242 2308 242,in 3209 214 15826,cr8wr 140 35 140,callret 11 51 11,callret-user 11 51 11," \
        "pgfault 1093 3927 11242,pgfault-user 1093 3927 11242,divzero 889 3223 1014," \
        "divzero-user 889 3223 1014,ptemod 1 391 12733", then, ",")
    for (i in then) {
        split(then[i], f, " ")
        native[f[1]] = f[2]
        software[f[1]] = f[3]
        hardware[f[1]] = f[4]
    }
    approximate["cr8wr"] = "~"
    signal["native", "pgfault-user"] = signal["native", "divzero-user"] = " s"
    signal["native", "syscall"] = " p"
    printf "%-18s %18s %22s %20s %20s %18s | %14s %12s %12s\n", "cycles", "native", "kvm", "bt", "interp",
        "QEMU TCG", "2006: native", "software VMM", "hardware VMM"
    count = split(rows, row, " ")
    for (i = 1; i <= count; i++) {
        n = row[i]
        printf "%-18s %18s %22s %20s %20s %18s | %14s %12s %12s\n", n, cell("native", n), cell("kvm", n),
            cell("bt", n), cell("interp", n), cell("tcg", n), n in native ? approximate[n] native[n] : "-",
            n in software ? software[n] : "-", n in hardware ? approximate[n] hardware[n] : "-"
        if (n in software && ("bt", n) in least)
            bar("bt " n " below the software VMM of 2006", least["bt", n], software[n])
        if (n ~ /^(in|cr8wr|syscall|ptemod)$/ && ("bt", n) in least) {
            if (("kvm", n) in least)
                bar("bt " n " below kvm here", least["bt", n], least["kvm", n])
            else
                bars = bars sprintf("  %-46s %s\n", "bt " n " below kvm here",
                    "no figure for kvm" (("kvm", n) in why ? ": " why["kvm", n] " on this one" : ""))
        }
    }
    print "s: by way of a signal handler of the host'"'"'s kernel, not the bare fault; p: the host kernel'"'"'s getppid, not an empty handler"
    print "bars (by the least):"
    printf "%s", bars
}' "$tmp/rows"
machine "after"
finish
