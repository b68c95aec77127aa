#!/bin/bash
# kernel.sh DIR: Debian's cloud kernel into DIR: vmlinuz, vmlinux (what vmlinuz holds), release.
# Downloaded and unpacked, not installed. Already there: nothing is done. Not to be had: one line,
# and success, because the tests that need it then say "skipped".
set -u
dir=${1:?usage: kernel.sh DIR}
mkdir -p "$dir"
here=$(cd "$(dirname "$0")" && pwd)
[ -s "$dir/vmlinuz" ] && [ -s "$dir/vmlinux" ] && exit 0

miss() {
    echo "Debian kernel: $*; tests that boot it will be skipped"
    exit 0
}
real() { # the package that linux-image-cloud-amd64 stands for
    apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -1
}
if [ ! -s "$dir/vmlinuz" ]; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || miss "no apt-get here"
    package=$(real)
    if [ -z "$package" ] && [ "$(id -u)" -eq 0 ]; then
        apt-get -qq update >/dev/null 2>&1
        package=$(real)
    fi
    [ -n "$package" ] || miss "apt knows no linux-image-cloud-amd64"
    echo "Debian kernel: downloading $package"
    deb=("$dir/$package"_*.deb)
    if [ ! -s "${deb[0]}" ]; then
        (cd "$dir" && apt-get -qq download "$package" >/dev/null 2>&1) ||
            { [ "$(id -u)" -eq 0 ] && apt-get -qq update >/dev/null 2>&1 &&
                (cd "$dir" && apt-get -qq download "$package" >/dev/null 2>&1); } ||
            miss "cannot download $package"
        deb=("$dir/$package"_*.deb)
    fi
    rm -rf "$dir/root"
    dpkg-deb -x "${deb[0]}" "$dir/root" || miss "cannot unpack ${deb[0]}"
    image=("$dir"/root/boot/vmlinuz-*)
    [ -s "${image[0]}" ] || miss "no vmlinuz in the package"
    basename "${image[0]}" | sed 's/^vmlinuz-//' >"$dir/release"
    cp "${image[0]}" "$dir/vmlinuz.tmp" && mv "$dir/vmlinuz.tmp" "$dir/vmlinuz"
fi
"$here/extract-vmlinux.sh" "$dir/vmlinuz" "$dir/vmlinux" || miss "cannot extract vmlinux"
