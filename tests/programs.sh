#!/bin/bash
# Software that was not written for mayfly, as static programs: what each prints, its status and the files
# it leaves are the same as on the host, which has a directory of its own where the guest has --share.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
p=$root/build/progs
src=$root/tests/progs
bb=$(command -v busybox)
engines=${ENGINES:-bt}
# KVM that runs kernel code in hardware can run them too.
[ -n "${ENGINES:-}" ] || ! "$mayfly" check 2>/dev/null | grep -q "^kvm *hardware" || engines+=" kvm"
mkdir -p "$p" "$tmp/host" "$tmp/guest"
input=/dev/null
more=() # options of mayfly

# same NAME COMMAND…: its stdin is $input.
same() {
    local name=$1 engine want got
    shift
    (cd "$tmp/host" && exec env -i "$@") <"$input" >"$tmp/host.out" 2>"$tmp/host.err"
    want=$?
    for engine in $engines; do
        rm -rf "${tmp:?}/guest" && cp -a "$tmp/before" "$tmp/guest"
        "$mayfly" run --engine "$engine" --timeout 100 -m 256M --share "$tmp/guest:/work" --cwd /work \
            ${more[@]+"${more[@]}"} "$@" \
            <"$input" >"$tmp/out" 2>"$tmp/err"
        got=$?
        if [ $got -ne $want ]; then
            not_ok "$engine $name" "status $got, on the host $want: $(head -n 2 "$tmp/err" | tr '\n' ' ')"
        elif ! cmp -s "$tmp/host.out" "$tmp/out"; then
            not_ok "$engine $name" "$(diff "$tmp/host.out" "$tmp/out" | head -n 3 | tr '\n' ';')"
        elif ! diff -r "$tmp/host" "$tmp/guest" >"$tmp/diff" 2>&1; then
            not_ok "$engine $name" "files: $(head -n 2 "$tmp/diff" | tr '\n' ';')"
        else
            ok "$engine $name"
        fi
    done
    rm -rf "${tmp:?}/before" && cp -a "$tmp/host" "$tmp/before"
}
mkdir "$tmp/before"

# made NAME SOURCE PACKAGE COMMAND…: a program built once; false (and a line) where it cannot be.
made() {
    local name=$1 from=$src/$2 package=$3
    shift 3
    [ "$p/$name" -nt "$from" ] && return
    command -v "$1" >/dev/null || { skipped "$name" "no $1 ($package)"; return 1; }
    "$@" >"$tmp/build" 2>&1 && [ -x "$p/$name" ] && return
    skipped "$name" "not built: $(grep -m 1 -i 'error\|cannot' "$tmp/build") ($package)"
    return 1
}

# --- busybox: an applet a run, in one process ---------------------------------------------------------
head -c 3000000 /dev/urandom >"$tmp/host/random"
seq 1 30000 | sed 's/$/ some words to sort and to sum/' >"$tmp/host/words"
head -c $((100 << 20)) /dev/zero | openssl enc -aes-128-ctr -K 01 -iv 02 2>/dev/null >"$tmp/host/large"
[ -s "$tmp/host/large" ] || head -c $((100 << 20)) /dev/urandom >"$tmp/host/large"
rm -rf "$tmp/before" && cp -a "$tmp/host" "$tmp/before"
same 'busybox sha256sum of 100 MiB' "$bb" sha256sum large
rm "$tmp/host/large" "$tmp/before/large"

# httpd in inetd's way: a machine for every connection, which is its stdin and stdout.
serve() {
    python3 - "$tmp/before" "$@" <<'END'
import socket, subprocess, sys
server = socket.create_server(("127.0.0.1", 0))
def get(path):
    url = "http://127.0.0.1:%d/%s" % (server.getsockname()[1], path)
    client = subprocess.Popen([sys.executable, "-c", '''
import sys, urllib.error, urllib.request
try:
    sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())
except urllib.error.HTTPError as e:
    sys.exit(e.code - 400)''', url], stdout=subprocess.PIPE)
    conn, _ = server.accept()
    guest = subprocess.run(sys.argv[2:], stdin=conn, stdout=conn)
    conn.close()
    return guest.returncode, client.communicate()[0], client.returncode
for name in "words", "random":
    if get(name) != (0, open(sys.argv[1] + "/" + name, "rb").read(), 0):
        sys.exit(name + ": not what the file holds")
if get("missing")[2] != 4:
    sys.exit("missing: not 404")
END
}
for engine in $engines; do
    if serve "$mayfly" run --engine "$engine" --timeout 60 --share "$tmp/before:/www,ro" "$bb" httpd -i -h /www \
        2>"$tmp/err"; then
        ok "$engine busybox httpd, a machine for every request"
    else
        not_ok "$engine busybox httpd, a machine for every request" "$(tail -n 1 "$tmp/err")"
    fi
done
same 'busybox gzip' "$bb" gzip -n -k words random
same 'busybox gunzip' "$bb" gunzip -c random.gz
same 'busybox bzip2' "$bb" bzip2 -k words
same 'busybox awk' "$bb" awk '{ s += $1; n[$1 % 7]++; l = length($0) > l ? length($0) : l } END { print s, n[3], l }' words
same 'busybox sort' "$bb" sort -k 1,1nr -o sorted words
same 'busybox uniq, a missing file' "$bb" uniq -c sorted none
same 'busybox sed -i' "$bb" sed -i 's/9/nine/g' sorted
same 'busybox tar' "$bb" tar -cf all.tar words sorted
same 'busybox tar -x' "$bb" tar -xf all.tar -O words
same 'busybox cp, find' "$bb" cp -a words copied
same 'busybox grep' "$bb" grep -rc '77' .
same 'busybox diff' "$bb" diff words sorted
same 'busybox dd' "$bb" dd if=random of=part bs=1000 skip=3 count=500 conv=notrunc
same 'busybox mkdir, mv' "$bb" mkdir -p a/b/c
same 'busybox mv' "$bb" mv part a/b/c/moved
same 'busybox rm' "$bb" rm -r a
same 'busybox od' "$bb" od -A d -t x4 -N 5000 random
same 'busybox md5sum, sha512sum' "$bb" sha512sum words random
input=$tmp/host/words
# shellcheck disable=SC2016
same 'busybox sh' "$bb" sh -c '
    i=0
    while read -r a b; do i=$((i + a)); done
    echo "$i"
    fact() { if [ $1 -le 1 ]; then echo 1 >f; else fact $(($1 - 1)); read -r x <f; echo $(($1 * x)) >f; fi; }
    fact 10; read -r x <f; echo $x
    case $x in 36*) echo starts;; esac
    set -- a "b c" d; for w; do printf "<%s>" "$w"; done; echo
    cd /tmp && echo x >f && test -s f && echo "${x%0*} ${#x} $((0x10 | 1))"
    trap "echo bye" EXIT
    [ -d none ] || exit 7'
input=/dev/null

# --- bash ---------------------------------------------------------------------------------------------
if [ -x /bin/bash-static ]; then
    cp "$src/script.bash" "$tmp/host" && cp "$src/script.bash" "$tmp/before"
    input=$src/lua.c
    same bash /bin/bash-static script.bash 'an argument'
    input=/dev/null
else
    skipped bash "no bash-static"
fi

# --- sqlite -------------------------------------------------------------------------------------------
sql() { # NAME SQL
    echo "$2" >"$tmp/sql"
    input=$tmp/sql
    same "$1" "$p/sqlite" test.db
    input=/dev/null
}
if made sqlite sqlite.c libsqlite3-dev gcc -O1 -static -o "$p/sqlite" "$src/sqlite.c" -lsqlite3 -lm; then
    sql 'sqlite: tables, an index' "
        create table t (a integer primary key, b text, c real);
        begin;
        with recursive s(i) as (select 1 union all select i + 1 from s where i < 5000)
            insert into t select i, printf('row%05d', i * 7919 % 5000), i / 3.0 from s;
        commit;
        create index by_b on t (b);
        select count(*), sum(a), round(sum(c), 3) from t;
        select * from t where b > 'row019' order by b limit 5;
        select substr(b, 1, 5), count(*), avg(a) from t group by 1 order by 2 desc, 1 limit 4;"
    sql 'sqlite: a journal, rolled back' "
        begin; update t set b = 'x' || b where a % 10 = 0; rollback;
        begin; delete from t where a % 3 = 0; commit;
        select count(*), max(b), min(b) from t;"
    sql 'sqlite: a log of writes ahead, by shared memory' "
        pragma journal_mode = wal;
        insert into t (b, c) select b || '!', c * 2 from t limit 500;
        update t set c = a where b like '%!';
        select count(*), sum(c > 1000) from t;
        pragma wal_checkpoint(truncate);
        pragma journal_mode = delete; vacuum; pragma integrity_check;"
    sql 'sqlite: an error' "select * from nowhere;"
    rm -f "$tmp"/host/test.db "$tmp"/before/test.db
fi

# --- lua ----------------------------------------------------------------------------------------------
if made lua lua.c liblua5.4-dev gcc -O1 -static -I/usr/include/lua5.4 -o "$p/lua" "$src/lua.c" -llua5.4 -lm; then
    cp "$src/script.lua" "$tmp/host" && cp "$src/script.lua" "$tmp/before"
    input=$src/lua.c
    same lua "$p/lua" script.lua 'an argument' more
    input=/dev/null
    same 'lua: a script that is not there' "$p/lua" none.lua
fi

# --- python: Debian has the interpreter as a library, its modules come by --share ------------------------
lib=$(ls -d /usr/lib/python3.*/config-*/libpython3.*[0-9].a 2>/dev/null | tail -n 1)
version=${lib##*/libpython} version=${version%.a}
if [ -z "$lib" ]; then
    skipped python "no libpython3.N-dev"
elif made python python.c "libpython$version-dev" gcc -O1 -static "-I/usr/include/python$version" -o "$p/python" \
    "$src/python.c" -L"${lib%/*}" "-lpython$version" -lexpat -lz -lm -ldl -lpthread -lutil; then
    cp "$src/script.py" "$tmp/host" && cp "$src/script.py" "$tmp/before"
    input=$src/script.bash
    more=(--share "/usr/lib/python$version:/usr/lib/python$version,ro")
    same python "$p/python" script.py 'an argument' more
    same 'python: an uncaught exception' "$p/python" -c 'import json; json.loads("{")'
    more=()
fi

# --- compilers that a test machine need not have ------------------------------------------------------
input=$src/script.bash
if made go go.go golang-go env CGO_ENABLED=0 "GOCACHE=$root/build/gocache" go build -o "$p/go" "$src/go.go"; then
    same 'go: goroutines, garbage, timers, files, signals' "$p/go" one 'two words'
fi
if made rust rust.rs rustc rustc -O -C target-feature=+crt-static -o "$p/rust" "$src/rust.rs"; then
    same 'rust, glibc: threads, panics, files' "$p/rust" one 'two words'
fi
if made rust.musl rust.rs 'the target x86_64-unknown-linux-musl' rustc -O --target x86_64-unknown-linux-musl \
    -o "$p/rust.musl" "$src/rust.rs"; then
    same 'rust, musl: threads, panics, files' "$p/rust.musl" one 'two words'
fi
if made cxx cxx.cc g++ g++ -O1 -static -pthread -o "$p/cxx" "$src/cxx.cc"; then
    same 'C++: exceptions, threads' "$p/cxx" one
fi
finish
