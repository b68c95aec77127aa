#!/bin/bash
# guest_initrd.sh OUT SCRIPT [FILE…]: an initrd with busybox, Debian's virtio modules, SCRIPT as what
# /init runs once the modules are loaded, and the FILEs in /bin. Not compressed: it is read once.
set -eu
out=$1 script=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../.cache
modules=$(ls -d "$cache"/root/lib/modules/*/kernel)
busybox=
for b in /bin/busybox /usr/bin/busybox; do
    [ -x $b ] && busybox=$b && break
done
[ -n "$busybox" ] || { echo "no busybox: install busybox-static" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"/{bin,proc,sys,dev,tmp,etc,mnt,modules}
cp "$busybox" "$tmp/bin/busybox"
ln -s busybox "$tmp/bin/sh"
n=10
for m in virtio/virtio_ring virtio/virtio virtio/virtio_mmio block/virtio_blk ${MODULES:-}; do
    for f in "$modules/drivers/$m.ko" "$modules/$m.ko"; do
        [ -s "$f" ] && cp "$f" "$tmp/modules/$n-$(basename "$f")"
    done
    n=$((n + 1))
done
cat >"$tmp/init" <<'INIT'
#!/bin/sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/bin
echo 1 >/proc/sys/kernel/printk # kernel messages must not cut into our lines
for m in /modules/*.ko; do insmod "$m"; done
. /script
sync
poweroff -f
INIT
chmod 755 "$tmp/init"
cp "$script" "$tmp/script"
for f in "$@"; do install -m 755 "$f" "$tmp/bin/"; done
(cd "$tmp" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$out.tmp"
mv "$out.tmp" "$out"
