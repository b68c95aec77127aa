#!/bin/bash
# lwip.sh DIR: lwIP's source, as Debian distributes it, unpacked into DIR/lwip-2.1.3. There already:
# nothing is done. Not to be had: one line and status 1; mayfly is then built without the network of
# programs.
set -u
dir=${1:?usage: lwip.sh DIR}
tree=lwip-2.1.3
file=lwip_2.1.3+dfsg1.orig.tar.xz
sum=0a8276d09fc4e97bbba2f953d74af2388fc2195ea156be9d7589e297a68fde24
pool=pool/main/l/lwip
helper=/usr/lib/apt/apt-helper
[ -e "$dir/$tree/complete" ] && exit 0

miss() {
    echo "lwIP: $*; this mayfly will have no network for programs (--net with a program is refused)" >&2
    exit 1
}
good() { [ -s "$1" ] && echo "$sum  $1" | sha256sum --status -c -; }
# The machine's own mirror first: where it would get the package that is made of this source.
mirrors() {
    apt-get --print-uris download liblwip-dev 2>/dev/null | sed -n "s|^'\(.*\)/$pool/.*|\1|p"
    echo http://deb.debian.org/debian
}
mkdir -p "$dir"
if ! good "$dir/$file"; then
    [ -x $helper ] || miss "no apt here to download it"
    for mirror in $(mirrors); do
        $helper -o Acquire::Retries=0 -o Acquire::http::Timeout=20 download-file \
            "$mirror/$pool/$file" "$dir/$file" "SHA256:$sum" >/dev/null 2>&1 && break
    done
    good "$dir/$file" || miss "cannot download $pool/$file from a Debian mirror"
fi
rm -rf "${dir:?}/$tree"
tar -xJf "$dir/$file" -C "$dir" || miss "cannot unpack $dir/$file (xz-utils?)"
touch "$dir/$tree/complete"
