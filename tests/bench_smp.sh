#!/bin/bash
# `make bench-smp`: what more virtual CPUs cost and give, under bt. Debian's kernel to /init and off
# with 1, 2, 4 and 16 (BOOTS times each); one compute process, then two at once, on 2 vCPUs, and the
# same two on the host (REPS times each, turn by turn, of N steps of busybox's awk). Medians, and the
# least: on a busy machine two processes have no two cores, natively neither.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
boots=${BOOTS:-5} reps=${REPS:-5} n=${N:-3000000}
engine=${ENGINE:-bt}
append=(console=ttyS0 panic=-1 reboot=t)
[ -s .cache/vmlinuz ] || { echo "no Debian kernel in .cache (tests/kernel.sh): nothing to measure"; exit 1; }

echo "host: $("$mayfly" check | sed -n 's/^cpu *//p'), $(nproc) CPUs, load $(cut -d' ' -f1-3 /proc/loadavg)"
for cpus in 1 2 4 16; do
    boot=$(build/timeit "$boots" "$mayfly" run --engine "$engine" -m 256M -c $cpus --initrd build/initrd.gz \
        .cache/vmlinuz "${append[@]}" t=boot) || { echo "the boot with $cpus CPUs failed"; exit 1; }
    echo "$boot" | awk -v c=$cpus '{ printf "boot to /init and off, %2d vCPUs: %.2f s (%.2f-%.2f)\n", c, $1 / 1e6, $2 / 1e6, $3 / 1e6 }'
done

# rows: lines "before, after one, after two, number of different results".
table() {
    awk -v name="$1" '
        function median(a, k,  i, j, t) {
            for (i = 2; i <= k; i++)
                for (j = i; j > 1 && a[j] < a[j - 1]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
            return a[int((k + 1) / 2)]
        }
        { k++; one[k] = $2 - $1; two[k] = $3 - $2; bad += $4 != 1 }
        END {
            if (!k || bad) { print name ": results differ"; exit 1 }
            m1 = median(one, k); m2 = median(two, k)
            printf "%-16s one %.2f s, two at once %.2f s: %.2f times (least: %.2f)\n", name, m1, m2, m2 / m1, two[1] / one[1]
        }'
}
busybox=$(command -v busybox)
native() {
    job() { "$busybox" awk -v n="$n" 'BEGIN { for (i = 0; i < n; i++) s = (s * 31 + i) % 1000003; print s }' >"$tmp/$1"; }
    now() { date +%s.%N; }
    local t0 t1
    t0=$(now)
    job 1
    t1=$(now)
    job 2 & job 3 & wait
    echo "$t0 $t1 $(now) $(cat "$tmp"/[123] | sort -u | wc -l)"
}
tests/guest_initrd.sh "$tmp/smp.img" tests/bench_smp.guest
: >"$tmp/native"
: >"$tmp/guest"
for ((i = 0; i < reps; i++)); do
    native >>"$tmp/native"
    "$mayfly" run --engine "$engine" -m 256M -c 2 --timeout 600 --initrd "$tmp/smp.img" .cache/vmlinuz "${append[@]}" \
        reps=1 "n=$n" </dev/null 2>"$tmp/err" | tr -d '\r' | sed -n 's/^T: //p' >>"$tmp/guest"
done
[ "$(wc -l <"$tmp/guest")" -eq "$reps" ] || { echo "a guest did not come to its end: $(tail -n 1 "$tmp/err")"; exit 1; }
table "natively" <"$tmp/native" && table "$engine, 2 vCPUs" <"$tmp/guest" || exit 1
echo "bar: two at once within 1.15 times the time of one, on two idle cores"
