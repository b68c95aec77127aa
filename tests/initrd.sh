#!/bin/bash
# initrd.sh OUT: busybox and tests/init as a gzipped cpio archive.
set -eu
out=$1
here=$(cd "$(dirname "$0")" && pwd)
busybox=
for b in /bin/busybox /usr/bin/busybox; do
    [ -x $b ] && busybox=$b && break
done
[ -n "$busybox" ] || { echo "no busybox: install busybox-static" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"/{bin,proc,sys,dev,tmp,etc}
cp "$busybox" "$tmp/bin/busybox"
ln -s busybox "$tmp/bin/sh"
install -m 755 "$here/init" "$tmp/init"
(cd "$tmp" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -1n >"$out.tmp"
mv "$out.tmp" "$out"
