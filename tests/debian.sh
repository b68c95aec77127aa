#!/bin/bash
# shellcheck source=tests/lib.sh
# Debian's own kernel to user space and back, under bt: as bzImage, as the vmlinux in it (64-bit
# entry) and by PVH, with RAM on either side of the hole. What the guest computed is compared with
# what it must be. BOOTS=50 tests/debian.sh repeats the first case; ENGINE=… tries another engine.
. "$(dirname "$0")/lib.sh"
engine=${ENGINE:-bt}
boots=${BOOTS:-1}
vmlinuz=.cache/vmlinuz vmlinux=.cache/vmlinux initrd=build/initrd.gz
append="console=ttyS0 panic=-1 reboot=t"

needs_debian "debian" "$vmlinuz" "$vmlinux"
{
    echo "T: sum 2666866670000"
    echo "T: sorted 999 998 997 "
    echo "T: words 16"
    echo "T: forks 100"
    echo "T: pi 3.141542654"
    echo "T: sha256 $(yes 0123456789abcdef | head -c 33554432 | sha256sum | cut -d' ' -f1)"
    echo "T: gzip ok"
    echo "T: slept"
} >"$tmp/expected"
release=$(cat .cache/release)

# boot NAME MEMORY_MIB [OPTION…] IMAGE
boot() {
    local name="debian $engine $1" memory=$2 status total
    shift 2
    "$mayfly" run --engine "$engine" -m "${memory}M" --timeout 240 --initrd $initrd "$@" $append \
        </dev/null >"$tmp/out" 2>"$tmp/err"
    status=$?
    tr -d '\r' <"$tmp/out" >"$tmp/text"
    mkdir -p build/test
    cp "$tmp/text" "build/test/${name// /-}.out"
    if [ $status -ne 0 ]; then
        not_ok "$name" "exit status $status; $(tail -n 1 "$tmp/text" | cut -c1-120) $(tail -n 1 "$tmp/err")"
        return
    fi
    if ! grep -E '^T: (sum|sorted|words|forks|pi|sha256|gzip|slept)' "$tmp/text" |
        cmp -s - "$tmp/expected"; then
        not_ok "$name" "$(grep '^T:' "$tmp/text" | diff - "$tmp/expected" | grep '^>' | head -n 1 | cut -c1-120)"
        return
    fi
    total=$(sed -n 's/^T: memory //p' "$tmp/text")
    if ! grep -qx "T: release $release" "$tmp/text" || ! grep -qx "T: cpus 1" "$tmp/text" ||
        [ "${total:-0}" -lt $((memory * 1024 * 6 / 10)) ] || [ "$total" -gt $((memory * 1024)) ]; then
        not_ok "$name" "memory '$total' kB of $memory MiB, $(grep -E '^T: (release|cpus)' "$tmp/text" | tr '\n' ' ')"
        return
    fi
    ok "$name"
}

for i in $(seq "$boots"); do
    boot "bzImage 256M #$i" 256 $vmlinuz
done
boot "vmlinux 256M" 256 --boot linux $vmlinux
boot "pvh 256M" 256 --boot pvh $vmlinux
boot "bzImage 128M" 128 $vmlinuz
boot "bzImage 3200M" 3200 $vmlinuz
boot "vmlinux 3584M" 3584 $vmlinux
finish
