#!/bin/bash
# tree.sh TREE OUT: the benchmark's file tree (its /bench is where the native runs work, too) and the
# initrd made of it. A program that is not installed is left out, and said.
set -eu
tree=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
rm -rf "$tree"
mkdir -p "$tree"/{bin,proc,dev,tmp,bench}
for b in /bin/busybox /usr/bin/busybox; do
    [ ! -x $b ] || cp $b "$tree/bin/busybox"
done
ln -s busybox "$tree/bin/sh"
install -m 755 "$root/build/guests/benchbt-linux" "$tree/bin/benchbt"
install -m 755 "$here/init" "$tree/init"
install -m 755 "$here/inside.sh" "$tree/bench/inside.sh"
cp "$here/queries.sql" "$here/work.py" "$tree/bench/"

place() { # a file at the path it has here, with what it is linked against
    local f
    for f in "$1" $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*'); do
        [ -e "$tree$f" ] || install -p -D -m 755 "$f" "$tree$f"
    done
}
# program NAME EXECUTABLE [ARG…]: into the list when it is here and does its work.
program() {
    local name=$1 exe=$2
    if [ -x "$exe" ] && (cd "$tree/bench" && env -i PATH=/usr/bin:/bin "${@:2}" >/dev/null 2>&1 </dev/null); then
        place "$exe"
        echo "$*" >>"$tree/bench/programs"
    else
        echo "note: $name is left out: $exe does not do it here" >&2
        return 1
    fi
}
: >"$tree/bench/programs"
# Something real to compress: code, tables and text.
head -c 700000 "$tree/bin/busybox" >"$tree/bench/file"
program gzip /usr/bin/gzip -n -6 -c file || true
program xz /usr/bin/xz -T1 -1 -c file || true
program sqlite3 /usr/bin/sqlite3 -batch -init queries.sql :memory: .exit || true
sources=()
for f in memory compute flow strings os; do
    ! tcc -E -P -I"$root" "$root/guests/benchbt/$f.c" -o "$tree/bench/$f.i" 2>/dev/null || sources+=("$f.i")
done
[ ${#sources[@]} -eq 0 ] || program tcc /usr/bin/tcc -r -o /proc/self/fd/1 "${sources[@]}" || true
python=$(readlink -f /usr/bin/python3 || true)
if program python3 "${python:-/usr/bin/python3}" -I -S -B work.py; then
    # Exactly the modules it imports, and their compiled forms.
    (cd "$tree/bench" && env -i PATH=/usr/bin:/bin "$python" -I -S -B -c '
import importlib.util, os, runpy, sys
sys.stdout = open(os.devnull, "w")
runpy.run_path("work.py", run_name="__main__")
import encodings.ascii, encodings.latin_1, encodings.utf_8, os, site
for m in list(sys.modules.values()):
    f = getattr(m, "__file__", None)
    if f and f.startswith("/"):
        for g in (f, importlib.util.cache_from_source(f) if f.endswith(".py") else f):
            if os.path.exists(g):
                print(g, file=sys.stderr)' 2>&1) | sort -u | while read -r f; do
        place "$f"
    done
fi
(cd "$tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$out.tmp"
mv "$out.tmp" "$out"
