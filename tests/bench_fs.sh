#!/bin/bash
# A shared directory: what calls of a program cost in the runtime and on the host (tests/fs_cost.c). Then
# Linux beside QEMU's TCG with virtiofsd (microvm, virtio-mmio): the same kernel, initrd and files, in
# turns. Small files a second by what is done with them, one large file in MB/s, and what a request cost
# in notifications, interrupts and exits. FILES=10000 for more.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
files=${FILES:-2000}
kernel=.cache/vmlinux
append="console=ttyS0 panic=-1 reboot=t quiet"
qemu=$(command -v qemu-system-x86_64)
daemon=/usr/lib/qemu/virtiofsd
[ -x $daemon ] || daemon=/usr/libexec/virtiofsd

# In turns, the least of three medians of each: others on the machine make it longer only.
if ${MUSL_CC:-musl-gcc} -static -O2 -D_GNU_SOURCE -o "$tmp/cost" tests/fs_cost.c; then
    mkdir "$tmp/native" "$tmp/guest"
    for _ in 1 2 3; do
        (cd "$tmp/native" && "$tmp/cost") | sed 's/^/native\t/'
        "$mayfly" run --engine bt --share "$tmp/guest:/work" --cwd /work "$tmp/cost" | sed 's/^/mayfly\t/'
    done >"$tmp/costs"
    echo "file calls of a program (us): the host, mayfly bt on a share"
    awk -F'\t' '!(($1, $2) in t) || $3 < t[$1, $2] { t[$1, $2] = $3 }
        $1 == "native" && !seen[$2]++ { row[n++] = $2 }
        END { for (i = 0; i < n; i++) printf "  %-30s %9.2f %9.2f %8.1f times\n", row[i],
            t["native", row[i]] / 1000, t["mayfly", row[i]] / 1000, t["mayfly", row[i]] / t["native", row[i]] }' "$tmp/costs"
fi
[ -s $kernel ] && [ -d .cache/root ] || { echo "fs: skipped, no kernel in .cache"; exit 0; }

mkdir "$tmp/src" "$tmp/share"
awk -v n="$files" -v dir="$tmp/src" 'BEGIN {
    for (i = 0; i < n; i++) {
        d = sprintf("%s/d%03d", dir, i % 50)
        if (i < 50) system("mkdir " d)
        f = sprintf("%s/file-%05d.txt", d, i)
        for (k = 0; k <= i % 37; k++)
            printf "%d line %d of a small file, one of many %d\n", i, k, i * k >f
        close(f)
    }
}'
tar cf "$tmp/share/files.tar" -C "$tmp/src" .
cat >"$tmp/script" <<'SH'
mount -t virtiofs share /mnt && cd /mnt && mkdir tree && cd tree
t=$(cut -d' ' -f1 /proc/uptime)
lap() { # NAME AMOUNT
    n=$(cut -d' ' -f1 /proc/uptime)
    echo "T: $1 $(awk -v a=$t -v b=$n -v w=$2 'BEGIN { printf "%.1f", (b > a ? w / (b - a) : 0) }')"
    t=$(cut -d' ' -f1 /proc/uptime)
}
tar xf ../files.tar
lap unpack $n_files
ls -lR . >/dev/null
lap list $n_files
find . -type f | xargs cat >/dev/null
lap read $n_files
rm -rf ../tree
cd ..
lap remove $n_files
dd if=/dev/zero of=large bs=1M count=256 2>/dev/null
lap write-MB 268
echo 3 >/proc/sys/vm/drop_caches
lap nothing 0
dd if=large of=/dev/null bs=1M 2>/dev/null
lap read-MB 268
rm large
SH
MODULES="fs/fuse/fuse fs/fuse/virtiofs" tests/guest_initrd.sh "$tmp/initrd" "$tmp/script" || exit 1
append="$append n_files=$files"

"$mayfly" run --engine bt -m 256M --timeout 300 --stats="$tmp/stats" --share "$tmp/share" \
    --initrd "$tmp/initrd" $kernel $append </dev/null >"$tmp/ours" 2>"$tmp/err" || cat "$tmp/err"
: >"$tmp/theirs"
# Under load this kernel's start in QEMU now and then hangs before it has a clock: once more, then.
for try in 1 2 3; do
    if [ -z "$qemu" ] || [ ! -x $daemon ] || [ "$(id -u)" -ne 0 ] || grep -q read-MB "$tmp/theirs"; then
        break
    fi
    rm -rf "$tmp/sock" "$tmp"/share/{tree,large}
    $daemon --socket-path="$tmp/sock" -o source="$tmp/share" -o sandbox=chroot >"$tmp/derr$try" 2>&1 &
    for ((i = 0; i < 50; i++)); do [ -S "$tmp/sock" ] && break; sleep 0.1; done
    timeout $((30 + files / 50)) "$qemu" -M microvm,rtc=on,memory-backend=mem -accel tcg,thread=single \
        -cpu max -nodefaults -no-user-config -global virtio-mmio.force-legacy=false -display none \
        -serial stdio -m 256M -object memory-backend-memfd,id=mem,size=256M,share=on \
        -kernel .cache/vmlinuz -initrd "$tmp/initrd" -append "$append" \
        -chardev "socket,id=c,path=$tmp/sock" -device vhost-user-fs-device,chardev=c,tag=share \
        </dev/null >"$tmp/theirs" 2>"$tmp/qerr"
    wait
done
if [ -n "$qemu" ] && [ -x $daemon ] && ! grep -q read-MB "$tmp/theirs"; then
    echo "fs: QEMU's guest did not get to its end, load $(cut -d' ' -f1-3 /proc/loadavg)"
fi
echo "fs: $files small files, one CPU (files/s, MB/s)"
for w in unpack list read remove write-MB read-MB; do
    awk -v w=$w -v a="$(tr -d '\r' <"$tmp/ours" | sed -n "s/^T: $w //p")" \
        -v q="$(tr -d '\r' <"$tmp/theirs" | sed -n "s/^T: $w //p")" 'BEGIN {
        printf "  %-10s mayfly bt %9.1f", w, a
        if (q > 0) printf "   QEMU TCG and virtiofsd %9.1f   %5.2f times", q, a / q
        printf "\n" }'
done
python3 -c 'import json, sys
s = json.load(open(sys.argv[1])).get("fs0", {})
print("  %d requests; notifications %.3f, interrupts %.3f, exits %.3f a request" % (
    s.get("requests", 0), s.get("notifications_per_request", 0), s.get("interrupts_per_request", 0),
    s.get("exits_per_request", 0)))' "$tmp/stats"
