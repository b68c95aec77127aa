#!/bin/bash
# shellcheck source=tests/lib.sh
# virtio-fs with Debian's kernel and drivers: a host directory mounted in the guest and worked in.
# What the guest made is looked at from the host, and the other way round.
. "$(dirname "$0")/lib.sh"
engine=${ENGINE:-bt}
files=${FILES:-10000}
append="console=ttyS0 panic=-1 reboot=t quiet"

if [ ! -s .cache/vmlinuz ] || ! ls .cache/root/lib/modules/*/kernel/fs/fuse/virtiofs.ko >/dev/null 2>&1; then
    skipped "virtio_fs" "no Debian kernel in .cache (tests/kernel.sh)"
    finish
fi
if ! ${MUSL_CC:-musl-gcc} -static -O1 -D_GNU_SOURCE -o "$tmp/fs_guest" tests/fs_guest.c; then
    not_ok "virtio_fs" "tests/fs_guest.c does not compile"
    finish
fi
busybox=$(ls /bin/busybox /usr/bin/busybox 2>/dev/null | head -n 1)
mkdir -p build/test "$tmp/rw" "$tmp/ro/dir" "$tmp/gone" "$tmp/outside"

# is NAME EXPECTED GOT
is() {
    if [ "$2" = "$3" ]; then ok "virtio_fs: $1"; else not_ok "virtio_fs: $1" "'$3', not '$2'"; fi
}

# guest SCRIPT OPTION…: what it printed, without the T:, is in $tmp/said.
guest() {
    local script=$1 status
    shift
    MODULES="fs/fuse/fuse fs/fuse/virtiofs" tests/guest_initrd.sh "$tmp/initrd" "$script" "$tmp/fs_guest"
    # shellcheck disable=SC2086
    "$mayfly" run --engine "$engine" -m 256M --timeout 300 --stats "$@" --initrd "$tmp/initrd" \
        .cache/vmlinuz $append </dev/null >"$tmp/out" 2>"$tmp/err"
    status=$?
    cp "$tmp/out" "build/test/virtio_fs-$(basename "$script").out"
    cp "$tmp/err" "build/test/virtio_fs-$(basename "$script").err"
    tr -d '\r' <"$tmp/out" | sed -n 's/^T: //p' >"$tmp/said"
    is "$(basename "$script"): status" 0 $status
}
said() { sed -n "s/^$1 //p" "$tmp/said"; }

# --- 10,000 small files: unpacked, listed, summed, removed ---
mkdir "$tmp/src"
awk -v n="$files" -v dir="$tmp/src" 'BEGIN {
    for (i = 0; i < n; i++) {
        d = sprintf("%s/d%03d", dir, i % 100)
        if (i < 100) system("mkdir " d)
        f = sprintf("%s/file-%05d.txt", d, i)
        for (k = 0; k < i % 37; k++)
            printf "%d line %d of a small file, one of many %d\n", i, k, i * k >f
        printf "" >f
        close(f)
    }
}'
tar cf "$tmp/rw/files.tar" -C "$tmp/src" .
(cd "$tmp/src" && find . -type f | LC_ALL=C sort | xargs sha256sum) >"$tmp/sums"
cat >"$tmp/files" <<'SH'
mount -t virtiofs share /mnt && echo "T: mounted yes"
cd /mnt
up() { cut -d' ' -f1 /proc/uptime; }
mkdir tree && cd tree
a=$(up)
tar xf ../files.tar && echo "T: unpacked yes"
b=$(up)
echo "T: listed $(find . -type f | wc -l)"
ls -lR . | awk '$1 ~ /^-/ { s += $5 } END { print "T: bytes", s }'
c=$(up)
find . -type f | sort | xargs sha256sum >../guest-sums
d=$(up)
mkdir ../copy && cp -a d00[0-4] ../copy
e=$(up)
rm -rf ../copy d0[1-9]? && [ ! -e ../copy ] && echo "T: removed yes"
echo "T: left $(ls | wc -l)"
f=$(up)
echo "T: seconds $(echo "$a $b $c $d $e $f" | awk '{ printf "unpack %.1f, list %.1f, sum %.1f, copy %.1f, remove %.1f", $2-$1, $3-$2, $4-$3, $5-$4, $6-$5 }')"
cd / && umount /mnt && echo "T: umounted yes"
SH
guest "$tmp/files" --share "$tmp/rw"
for w in mounted unpacked removed umounted; do is "$w" yes "$(said $w)"; done
is "files listed" "$files" "$(said listed)"
is "bytes listed" "$(cat "$tmp"/src/*/* | wc -c)" "$(said bytes)"
if cmp -s "$tmp/sums" "$tmp/rw/guest-sums"; then
    ok "virtio_fs: checksums in the guest"
else
    not_ok "virtio_fs: checksums in the guest" "$(diff "$tmp/sums" "$tmp/rw/guest-sums" | head -n 2 | tr '\n' ' ')"
fi
is "directories left" 10 "$(said left)"
rm -rf "$tmp"/src/d0[1-9]?
is "the tree on the host" "$(cd "$tmp/src" && find . -printf '%P %m %s %U\n' | sort | sha256sum)" \
    "$(cd "$tmp/rw/tree" && find . -printf '%P %m %s %U\n' | sort | sha256sum)"
if diff -r "$tmp/src" "$tmp/rw/tree" >"$tmp/diff"; then
    ok "virtio_fs: contents on the host"
else
    not_ok "virtio_fs: contents on the host" "$(head -n 1 "$tmp/diff")"
fi
echo "virtio_fs: $(said seconds)"
rm -rf "$tmp/rw" && mkdir "$tmp/rw"

# --- churn, every kind of call, escapes ---
echo "kept secret" >"$tmp/outside/secret"
ln -s ../outside "$tmp/rw/out"
ln -s "$tmp/outside/secret" "$tmp/rw/abs"
ln -s /etc/passwd "$tmp/rw/passwd"
echo "from the host" >"$tmp/rw/host"
cat >"$tmp/churn" <<'SH'
mount -t virtiofs share /mnt && echo "T: mounted yes"
cd /mnt
cat host | sed 's/^/T: read /'
mkdir objects refs work
# As git does it: a temporary file, renamed to its place; a lock, renamed over the old; hard links.
n=0
while [ $n -lt 300 ]; do
    d=objects/$((n % 16))
    [ -d $d ] || mkdir $d
    echo "object $n" >$d/tmp_obj_$n
    ln $d/tmp_obj_$n $d/obj$n && rm $d/tmp_obj_$n
    echo "$n" >refs/HEAD.lock && mv refs/HEAD.lock refs/HEAD
    echo "work $n" >work/file$((n % 20))
    n=$((n + 1))
done
mv objects/3 objects/moved && mv objects/moved objects/3
echo "T: objects $(find objects -type f | wc -l)"
echo "T: head $(cat refs/HEAD)"
echo "T: sum $(cat objects/*/obj* | sort | sha256sum | cut -d' ' -f1)"
rm -r work && [ ! -e work ] && echo "T: cleaned yes"
mkdir calls && cd calls && fs_guest
cd /mnt && rmdir calls && echo "T: emptied yes"
# Links lead where they do in the guest, which has no such files.
cat out/secret 2>/dev/null && echo "T: escaped out/secret"
cat abs 2>/dev/null && echo "T: escaped abs"
cat passwd 2>/dev/null && echo "T: escaped passwd"
echo x >abs 2>/dev/null && echo "T: escaped write"
cat ../outside/secret /mnt/../outside/secret 2>/dev/null && echo "T: escaped .."
ln -s ../../outside/secret own; cat own 2>/dev/null && echo "T: escaped own"
echo "T: link $(readlink abs)"
dd if=/dev/urandom of=random bs=1M count=24 2>/dev/null
sha256sum <random | sed 's/ .*//; s/^/T: random /'
echo 3 >/proc/sys/vm/drop_caches
sha256sum <random | sed 's/ .*//; s/^/T: reread /'
rm random own
# More open files than the monitor has operations for, all of them to be made durable.
mkdir sync
for i in $(seq 50); do dd if=/bin/busybox of=sync/$i bs=256k conv=fsync 2>/dev/null & done
wait
echo "T: synced $(cat sync/* | sha256sum | cut -d' ' -f1)"
rm -r sync
# The driver leaves with writes in flight, and comes back to a device that was reset.
dd if=/dev/zero of=late bs=1M count=64 2>/dev/null &
usleep 30000
dev=$(ls /sys/bus/virtio/drivers/virtiofs | grep virtio)
echo "$dev" >/sys/bus/virtio/drivers/virtiofs/unbind
wait
cd / && umount -l /mnt
echo "$dev" >/sys/bus/virtio/drivers/virtiofs/bind
mount -t virtiofs share /mnt && echo "T: again $(cat /mnt/host)"
SH
check_churn() {
    guest "$tmp/churn" --share "$tmp/rw"
    is "the host's file" "from the host" "$(said read)"
    is "objects" 300 "$(said objects)"
    is "refs" 299 "$(said head)"
    is "object contents" "$(for ((i = 0; i < 300; i++)); do echo "object $i"; done | LC_ALL=C sort | sha256sum | cut -d' ' -f1)" "$(said sum)"
    is "objects on the host" "$(said sum)" "$(cat "$tmp"/rw/objects/*/obj* | LC_ALL=C sort | sha256sum | cut -d' ' -f1)"
    for w in cleaned emptied; do is "$w" yes "$(said $w)"; done
    is "system calls" ok "$(said calls)"
    is "escapes" "" "$(said escaped)"
    is "the secret" "kept secret" "$(cat "$tmp/outside/secret")"
    is "readlink" "$tmp/outside/secret" "$(said link)"
    is "large file" 64 "$(said random | tr -d '\n' | wc -c)"
    is "large file again" "$(said random)" "$(said reread)"
    is "many files synced" "$(for ((i = 0; i < 50; i++)); do cat "$busybox"; done | sha256sum | cut -d' ' -f1)" \
        "$(said synced)"
    is "unbound and bound again" "from the host" "$(said again)"
}
check_churn
rm -rf "$tmp"/rw/{objects,refs,late}
MAYFLY_NO_IO_URING=1 check_churn
if grep -q 'io_uring is not used' "$tmp/err"; then
    ok "virtio_fs: without io_uring"
else
    not_ok "virtio_fs: without io_uring" "$(head -n 1 "$tmp/err")"
fi

# --- read-only, two shares with tags, a directory that vanishes ---
echo "text" >"$tmp/ro/file"
echo "text" >"$tmp/ro/other"
echo "here" >"$tmp/gone/file"
cat >"$tmp/ro-gone" <<'SH'
mkdir /ro /gone
mount -t virtiofs first /ro && mount -t virtiofs gone /gone && echo "T: mounted yes"
no() { "$@" 2>&1 | grep -qi 'read-only' || echo "T: allowed $*"; }
no touch /ro/new
no sh -c 'echo x >>/ro/file'
no rm /ro/file
no mkdir /ro/newdir
no mv /ro/file /ro/moved
no ln -s x /ro/link
no chmod 600 /ro/file
no rmdir /ro/dir
no truncate -s 0 /ro/file
cd /ro && fs_guest swap file other
echo "T: text $(cat /ro/file)"
cat /gone/file | sed 's/^/T: before /'
echo "T: remove-it"
sleep 2
n=0
while [ -e /gone/file ] && [ $n -lt 50 ]; do sleep 0.2; n=$((n + 1)); done
cat /gone/file 2>/dev/null && echo "T: still there"
ls /gone/x 2>/dev/null && echo "T: still there"
mkdir /gone/new 2>/dev/null && echo "T: still made"
echo "T: alive yes"
SH
(
    for ((i = 0; i < 600; i++)); do
        grep -q "remove-it" "$tmp/out" 2>/dev/null && break
        sleep 0.1
    done
    rm -rf "$tmp/gone"
) &
watcher=$!
: >"$tmp/out"
guest "$tmp/ro-gone" --share "$tmp/ro:first,ro" --share "$tmp/gone:gone"
wait $watcher
is "two shares" yes "$(said mounted)"
is "read-only" "" "$(said allowed)"
is "read-only exchange" "Read-only file system" "$(said swap)"
is "read-only text" text "$(said text)"
is "the vanished directory" "here yes" "$(said before) $(said alive)$(said still)"

# --- what the option refuses ---
refused() { # NAME TEXT OPTION…
    local name=$1 text=$2
    shift 2
    "$mayfly" run --engine "$engine" "$@" hello >/dev/null 2>"$tmp/err"
    is "refused: $name" "125 1" "$? $(grep -c "$text" "$tmp/err")"
}
touch "$tmp/plain"
mkdir "$tmp/a,b"
refused "no such directory" "No such file" --share "$tmp/none"
refused "a file" "only a directory" --share "$tmp/plain"
refused "an option" "unknown option 'rw'" --share "$tmp/ro,rw"
refused "an empty tag" "1 to 36" --share "$tmp/ro:"
refused "a long tag" "1 to 36" --share "$tmp/ro:0123456789012345678901234567890123456"
refused "an empty directory" "no directory" --share ":tag"
refused "one tag twice" "another share" --share "$tmp/ro:x" --share "$tmp/rw:x"
"$mayfly" run --engine "$engine" --share "$tmp/a,b/" hello >/dev/null 2>"$tmp/err"
is "a comma in the name" 0 $?
finish
