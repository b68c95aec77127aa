#!/bin/bash
# Static Linux programs as guests: output and status equal to the host's, on bt and interp; what
# cannot run is refused with one line and 126.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
p=build/progs
mkdir -p $p

# --- the programs: both C libraries, fixed and static-pie, C++, Rust where it is there -------------
build() { # OUTPUT SOURCE COMMAND…
    local out=$p/$1 src=tests/progs/$2
    shift 2
    [ "$out" -nt "$src" ] || "$@" -o "$out" "$src" || not_ok "build $out" "$*"
}
for name in args memory threads signals files stdin; do
    build $name.musl $name.c musl-gcc -O1 -static
    build $name.glibc $name.c gcc -O1 -static -pthread
done
build calls.glibc calls.c gcc -O1 -static -pthread
build process.glibc process.c gcc -O1 -static -pthread
build unix.glibc unix.c gcc -O1 -static -pthread
build args.pie args.c gcc -O1 -static-pie
build crash crash.c musl-gcc -O1 -static
build cxx cxx.cc g++ -O1 -static -pthread
programs="args.musl args.glibc args.pie memory.musl memory.glibc threads.musl threads.glibc signals.musl
    signals.glibc files.musl files.glibc calls.glibc process.glibc unix.glibc cxx"
if command -v rustc >/dev/null && rustc -O -C target-feature=+crt-static -o $p/rust tests/progs/rust.rs 2>/dev/null; then
    programs+=" rust"
else
    skipped rust "no rustc that links statically"
fi

# same NAME ENGINE COMMAND…: as on the host. $input is stdin.
same() {
    local name=$1 engine=$2 want got
    shift 2
    "$@" <"$input" >"$tmp/host" 2>/dev/null
    want=$?
    "$mayfly" run --engine "$engine" --timeout 60 "$@" <"$input" >"$tmp/guest" 2>"$tmp/err"
    got=$?
    if [ $got -ne $want ]; then
        not_ok "$engine $name" "status $got, on the host $want: $(head -n 1 "$tmp/err")"
    elif ! cmp -s "$tmp/host" "$tmp/guest"; then
        not_ok "$engine $name" "$(diff "$tmp/host" "$tmp/guest" | head -n 3 | tr '\n' ';')"
    elif grep -q FAIL "$tmp/guest"; then
        not_ok "$engine $name" "$(grep -m 1 FAIL "$tmp/guest")"
    else
        ok "$engine $name"
    fi
}

input=$tmp/words
echo 'a b c a' >"$input"
for engine in bt interp; do
    for name in $programs; do
        same "$name" $engine $p/"$name" one 'two words' ''
    done
done 2>/dev/null # the host's shell tells of aborts
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
    # Few: where KVM interprets CPL 0 each system call takes long.
    for name in args.musl args.glibc args.pie files.musl threads.musl cxx; do
        same "$name" kvm $p/$name one 'two words' ''
    done 2>/dev/null
else
    skipped kvm "no /dev/kvm"
fi

# --- busybox: applets in one process ---------------------------------------------------------------
bb=$(command -v busybox)
input=$tmp/data
seq 1 20000 | sed 's/$/ some words to sort and to sum/' >"$input"
for engine in bt; do
    same 'busybox sha256sum' $engine "$bb" sha256sum
    same 'busybox sort' $engine "$bb" sort -r
    same 'busybox awk' $engine "$bb" awk '{ s += $1; n[$1 % 7]++ } END { print s, n[3] }'
    same 'busybox gzip' $engine "$bb" gzip -n -c
    same 'busybox wc' $engine "$bb" wc
    same 'busybox sed' $engine "$bb" sed -n 's/9/nine/gp'
    # shellcheck disable=SC2016
    same 'busybox sh' $engine "$bb" sh -c 'i=0; while read -r a b; do i=$((i + a)); done; echo "$i"; cd /tmp; echo x >f; read -r y <f; echo "$y$1"; exit 7' sh 'q r'
    # shellcheck disable=SC2016
    same 'busybox sh, arithmetic' $engine "$bb" sh -c 'a=1; for i in 1 2 3 4 5 6 7; do a=$((a * i)); done; printf "%05d\n" $a; test -d /dev && echo yes'
done
input=/dev/null

# --- stdin that comes late: a thread waits for it, another goes on --------------------------------
for engine in bt interp; do
    for lib in musl glibc; do
        (sleep 0.3; printf one; sleep 0.3; printf two) |
            "$mayfly" run --engine $engine --timeout 20 $p/stdin.$lib >"$tmp/guest" 2>"$tmp/err"
        got=$?
        if [ $got -eq 6 ] && [ "$(cat "$tmp/guest")" = 'one two, counted meanwhile: 1' ]; then
            ok "$engine stdin.$lib: a reader waits, others run"
        else
            not_ok "$engine stdin.$lib: a reader waits, others run" "status $got, $(head -c 200 "$tmp/guest" "$tmp/err")"
        fi
    done
done

# --- the host's directory at /host, options ---------------------------------------------------------
mkdir "$tmp/share"
seq 1 50000 >"$tmp/share/numbers"
sum=$(sha256sum <"$tmp/share/numbers")
for engine in bt interp; do
    "$mayfly" run --engine $engine --timeout 30 --share "$tmp/share" "$bb" sha256sum /host/numbers >"$tmp/guest" 2>"$tmp/err"
    if [ "${sum%% *}" = "$(cut -d ' ' -f 1 "$tmp/guest")" ]; then ok "$engine share: read"; else not_ok "$engine share: read" "$(cat "$tmp/guest" "$tmp/err")"; fi
    for lib in musl glibc; do
        "$mayfly" run --engine $engine --timeout 30 --share "$tmp/share" --env DIR=/host $p/files.$lib >"$tmp/guest" 2>"$tmp/err" </dev/null
        got=$?
        if [ $got -eq 0 ] && ! grep -q FAIL "$tmp/guest" && [ "$(ls "$tmp/share")" = numbers ]; then
            ok "$engine share: files.$lib"
        else
            not_ok "$engine share: files.$lib" "status $got $(grep -m 2 FAIL "$tmp/guest")"
        fi
    done
done
"$mayfly" run --engine bt --timeout 10 --share "$tmp/share" --cwd /host --env WORD='a b' "$bb" sh -c 'pwd; echo "$WORD" >made; exit 5' >"$tmp/guest" 2>"$tmp/err"
got=$?
if [ $got -eq 5 ] && [ "$(cat "$tmp/guest")" = /host ] && [ "$(cat "$tmp/share/made")" = 'a b' ]; then
    ok "share: --cwd, --env, a file made there"
else
    not_ok "share: --cwd, --env, a file made there" "status $got $(cat "$tmp/guest" "$tmp/err")"
fi

# --- several shares, at paths of their own -----------------------------------------------------------
mkdir "$tmp/one" "$tmp/two" "$tmp/tree" "$tmp/tree/etc"
echo one >"$tmp/one/name" && echo two >"$tmp/two/name" && echo three >"$tmp/tree/etc/name"
# shares NAME WANT SHARE… -- ARG…: what busybox prints
shares() {
    local name=$1 want=$2 options=() got
    shift 2
    while [ "$1" != -- ]; do options+=(--share "$1") && shift; done
    shift
    got=$("$mayfly" run --engine bt --timeout 10 "${options[@]}" "$bb" "$@" 2>"$tmp/err" </dev/null | tr '\n' ' ')
    if [ "$got" = "$want " ]; then ok "shares: $name"; else not_ok "shares: $name" "got '$got', not '$want' $(head -n 1 "$tmp/err")"; fi
}
shares 'at a path' 'one' "$tmp/one:/data/deep" -- cat /data/deep/name
shares 'two paths and a plain one' 'one two three' "$tmp/one:/a" "$tmp/two:/a.b/c/" "$tmp/tree" -- cat /a/name /a.b/c/name /host2/etc/name
shares 'two plain ones' 'one two' "$tmp/one" "$tmp/two" -- cat /host/name /host1/name
shares 'one in another' 'two three' "$tmp/tree:/t" "$tmp/two:/t/etc/in" -- cat /t/etc/in/name /t/etc/name
shares 'the whole tree' 'three one' "$tmp/one:/mnt/x" "$tmp/tree:/" -- cat /etc/name /mnt/x/name /dev/null
shares 'a listing' 'name' "$tmp/one:/data" -- ls /data
"$mayfly" run --engine bt --share "$tmp/one:/a,ro" --share "$tmp/two:/b" "$bb" cp /b/name /a/other >"$tmp/guest" 2>"$tmp/err"
got=$?
if [ $got -ne 0 ] && grep -q 'Read-only' "$tmp/err" && [ ! -e "$tmp/one/other" ]; then ok "shares: ,ro"; else not_ok "shares: ,ro" "status $got $(cat "$tmp/err")"; fi
for bad in "$tmp/one:/a/../b" "$tmp/none:/a" "$tmp/one:/a,rw"; do
    "$mayfly" run --engine bt --share "$bad" hello >/dev/null 2>"$tmp/err"
    got=$?
    if [ $got -eq 125 ] && [ "$(wc -l <"$tmp/err")" -eq 1 ]; then ok "shares: refused ${bad#"$tmp/"}"; else not_ok "shares: refused ${bad#"$tmp/"}" "status $got"; fi
done
"$mayfly" run --engine bt --share "$tmp/one:/a" --share "$tmp/two:/a/" hello >/dev/null 2>"$tmp/err"
got=$?
if [ $got -eq 125 ] && grep -q 'another share is there' "$tmp/err"; then ok "shares: one path twice"; else not_ok "shares: one path twice" "status $got"; fi
# Files of the host, mapped and written to until the program's end.
for engine in bt interp; do
    "$mayfly" run --engine $engine --timeout 30 --share "$tmp/one:/s" --env DIR=/s build/guests/check share >"$tmp/guest" 2>"$tmp/err" </dev/null
    got=$?
    if [ $got -eq 0 ] && ! grep -q FAIL "$tmp/guest" && [ "$(tail -c 1000 "$tmp/one/kept" | tr -d '\0')" = 'to the end' ]; then
        ok "$engine shares: MAP_SHARED"
    else
        not_ok "$engine shares: MAP_SHARED" "status $got $(grep -m 2 FAIL "$tmp/guest")"
    fi
    rm -f "$tmp/one/kept"
done

# A directory in two machines and on the host at the same time. A machine does what its stdin says.
mkdir -p "$tmp/both/dir/sub"
for n in 1 2; do
    mkfifo "$tmp/to$n" "$tmp/from$n"
    # shellcheck disable=SC2016
    "$mayfly" run --engine bt --timeout 120 --share "$tmp/both:/s" --cwd /s "$bb" sh -c \
        'while read -r line; do eval "$line"; done' <"$tmp/to$n" >"$tmp/from$n" 2>"$tmp/err$n" &
done
exec 5>"$tmp/to1" 6<"$tmp/from1" 7>"$tmp/to2" 8<"$tmp/from2"
# in_guest N COMMAND: what it prints, a line.
in_guest() {
    local said=""
    echo "$2" >&$((3 + 2 * $1))
    read -r -t 60 said <&$((4 + 2 * $1))
    echo "$said"
}
# seen NAME N WANT COMMAND: at once; seen_soon: what follows a directory's name may take a moment.
seen() { local got; got=$(in_guest "$2" "$4"); if [ "$got" = "$3" ]; then ok "two machines: $1"; else not_ok "two machines: $1" "'$got', not '$3'"; fi; }
seen_soon() {
    local got=none i
    for ((i = 0; i < 100; i++)); do
        got=$(in_guest "$2" "$4")
        if [ "$got" = "$3" ]; then ok "two machines: $1"; return; fi
        sleep 0.05
    done
    not_ok "two machines: $1" "'$got', not '$3'"
}
look='if [ -e dir/sub/file ]; then read -r x <dir/sub/file; echo "$x"; else echo none; fi'
seen 'no file yet' 1 none "$look"
echo one >"$tmp/both/dir/sub/file"
seen 'a file made on the host' 1 one "$look"
echo two >"$tmp/both/dir/sub/file"
seen 'written to there' 1 two "$look"
seen 'and by another machine' 2 done 'echo three >dir/sub/file; echo done'
seen 'seen in the first' 1 three "$look"
rm "$tmp/both/dir/sub/file"
seen 'removed on the host' 1 none "$look"
mkdir -p "$tmp/both/other/sub" && echo four >"$tmp/both/other/sub/file"
rm -r "$tmp/both/dir" && mv "$tmp/both/other" "$tmp/both/dir"
seen 'a directory removed and made anew' 1 four "$look"
mkdir -p "$tmp/both/other/sub" && echo five >"$tmp/both/other/sub/file"
seen 'before it is exchanged' 1 four "$look"
mv "$tmp/both/dir" "$tmp/both/old" && mv "$tmp/both/other" "$tmp/both/dir"
seen 'a file made in what has that name now' 1 done 'echo six >dir/sub/made; echo done'
if [ -e "$tmp/both/dir/sub/made" ]; then ok 'two machines: it is there'; else not_ok 'two machines: it is there' "in $(cd "$tmp/both" && find . -name made)"; fi
seen_soon 'a directory exchanged for another' 1 five "$look"
: >"$tmp/both/log"
exec 9>>"$tmp/both/log"
seen 'appended in the first' 1 done 'exec 3>>log; echo a >&3; echo done'
seen 'appended in the second' 2 done 'exec 3>>log; echo b >&3; echo done'
echo c >&9
seen 'and the first again' 1 done 'echo d >&3; echo done'
if [ "$(tr '\n' ' ' <"$tmp/both/log")" = 'a b c d ' ]; then ok 'two machines: all is in the log'; else not_ok 'two machines: all is in the log' "$(tr '\n' ' ' <"$tmp/both/log")"; fi
exec 5>&- 6<&- 7>&- 8<&- 9>&-
wait
"$mayfly" run --engine bt --timeout 120 --share "$tmp/one:/s" --env DIR=/s build/guests/check churn >"$tmp/guest" 2>"$tmp/err" </dev/null
got=$?
if [ $got -eq 0 ]; then ok "shares: files made and removed"; else not_ok "shares: files made and removed" "status $got $(grep FAIL "$tmp/guest")"; fi

# --- memory past 4 GiB, sleeping, what -v tells ------------------------------------------------------
"$mayfly" run --engine bt -m 5G --timeout 60 build/guests/check high >"$tmp/guest" 2>"$tmp/err" </dev/null
got=$?
if [ $got -eq 0 ] && [ "$(grep -c PASS "$tmp/guest")" -eq 4 ]; then ok "memory past 4 GiB"; else not_ok "memory past 4 GiB" "status $got $(cat "$tmp/guest" "$tmp/err")"; fi
"$mayfly" run --engine bt --timeout 30 "--stats=$tmp/stats" build/guests/check sleep 20 </dev/null
if grep -q '"hlts": 20,' "$tmp/stats" && grep -q '"hypercall": 1\b' "$tmp/stats"; then
    ok "a sleep is one idle exit"
else
    not_ok "a sleep is one idle exit" "$(grep -E 'hlts|hypercall' "$tmp/stats" | tr '\n' ' ')"
fi
"$mayfly" run -v --engine bt --timeout 30 build/guests/check process >/dev/null 2>"$tmp/err" </dev/null
if grep -q '^mayfly: system calls: .*\bopen 1[0-9]' "$tmp/err" && grep -q '^mayfly: system calls that are not there: execve 1, inotify_init 1, inotify_init1 1$' "$tmp/err"; then
    ok "-v counts system calls"
else
    not_ok "-v counts system calls" "$(grep 'system calls' "$tmp/err" | tr '\n' ' ')"
fi

"$mayfly" run --engine bt --share "$tmp/none" hello >/dev/null 2>"$tmp/err"
got=$?
if [ $got -eq 125 ] && [ "$(wc -l <"$tmp/err")" -eq 1 ]; then ok "share that is not there"; else not_ok "share that is not there" "status $got"; fi

# --- crashes: one line, 128 + N --------------------------------------------------------------------
crash() { # NAME STATUS PATTERN
    "$mayfly" run --engine bt --timeout 30 $p/crash "$1" </dev/null >"$tmp/guest" 2>"$tmp/err"
    local got=$?
    if [ $got -eq "$2" ] && grep -q "$3" "$tmp/err" && [ "$(wc -l <"$tmp/err")" -eq 1 ]; then
        ok "crash $1"
    else
        not_ok "crash $1" "status $got: $(head -n 2 "$tmp/err")"
    fi
}
crash null 139 '^crash: Segmentation fault at 0x10 (rip 0x4[0-9a-f]*)$'
crash deep 139 '^crash: Segmentation fault at 0x7'
crash divide 136 '^crash: Floating point exception at 0x4'
crash illegal 132 '^crash: Illegal instruction at 0x4'
crash trap 133 '^crash: Trace/breakpoint trap'
crash abort 134 '^crash: Aborted$'
crash kernel 139 '^crash: Segmentation fault at 0x'
crash jump 139 '^crash: Segmentation fault at 0x'
crash io 139 '^crash: Segmentation fault at 0x'
crash fork 0 '^mayfly: crash: fork: a program runs alone'
"$mayfly" run --engine bt --timeout 30 $p/memory.glibc forever >"$tmp/guest" 2>"$tmp/err" </dev/null
got=$?
if [ $got -eq 3 ] && grep -q 'Cannot allocate memory after more than 10: 1' "$tmp/guest"; then
    ok "allocates until ENOMEM"
else
    not_ok "allocates until ENOMEM" "status $got $(cat "$tmp/guest" "$tmp/err")"
fi

# --- endless appetites: told as on Linux, and no hang ------------------------------------------------
build ends ends.c gcc -O1 -static -pthread
# ends WHAT STATUS PATTERN: in what it prints or what mayfly says
ends() {
    "$mayfly" run --engine bt --timeout 30 "${@:4}" $p/ends "$1" </dev/null >"$tmp/guest" 2>"$tmp/err"
    local got=$?
    if [ $got -eq "$2" ] && cat "$tmp/guest" "$tmp/err" | grep -q "$3"; then ok "endless $1"; else not_ok "endless $1" "status $got: $(cat "$tmp/guest" "$tmp/err" | head -n 2)"; fi
}
ends threads 0 '^Resource temporarily unavailable after more than 100: 1'
ends files 0 '^Too many open files after more than 100: 1'
ends disk 0 '^No space left on device after more than 10: 1, room again 1'
ends maps 0 '^Cannot allocate memory after more than 1000: 1'
ends touch 137 '^mayfly: ends: out of memory (64 MiB): give more with -m$' -m 64M
ends recursion 139 '^ends: Segmentation fault at 0x7'
"$mayfly" run --engine bt --timeout 10 "$bb" sh -c 'b() { b | b & }; b; echo over' >"$tmp/guest" 2>"$tmp/err" </dev/null
got=$?
if [ $got -eq 2 ] && [ "$(grep -c '^mayfly: .*fork' "$tmp/err")" -eq 1 ]; then ok "a fork bomb"; else not_ok "a fork bomb" "status $got $(cat "$tmp/err")"; fi

# --- calls with arguments of all kinds ---------------------------------------------------------------
build anycall anycall.c gcc -O1 -static
for seed in 1 2 3 $RANDOM; do
    mkdir "$tmp/any"
    "$mayfly" run --engine bt --timeout 60 -m 512M --share "$tmp/any:/work" $p/anycall $seed 6000 /work >"$tmp/guest" 2>"$tmp/err" </dev/null
    got=$?
    if [ $got -eq 7 ] && [ "$(tail -n 1 "$tmp/err")" = over ]; then ok "any system calls"; else not_ok "any system calls, seed $seed" "status $got $(tail -n 1 "$tmp/err" | tr -cd '[:print:]')"; fi
    rm -rf "${tmp:?}/any"
done

# --- standard descriptors ---------------------------------------------------------------------------
# closed NAME REDIRECTION: as on the host
"$bb" cat <&- >/dev/null 2>&1
want=$?
"$mayfly" run --engine bt --timeout 10 "$bb" cat <&- >/dev/null 2>&1
got=$?
if [ $got -eq $want ]; then ok "closed stdin"; else not_ok "closed stdin" "status $got, on the host $want"; fi
"$bb" cat </tmp >/dev/null 2>"$tmp/host"
want="$? $(cat "$tmp/host")"
"$mayfly" run --engine bt --timeout 10 "$bb" cat </tmp >/dev/null 2>"$tmp/err"
got="$? $(cat "$tmp/err")"
if [ "$got" = "$want" ]; then ok "a directory as stdin"; else not_ok "a directory as stdin" "$got, on the host $want"; fi
(ulimit -n 10 && exec "$mayfly" run --engine bt --timeout 10 --net user "$bb" echo hi >/dev/null 2>"$tmp/err")
got=$?
if [ $got -eq 125 ] && grep -q 'ulimit -n' "$tmp/err" && [ "$(wc -l <"$tmp/err")" -eq 1 ]; then ok "few open files"; else not_ok "few open files" "status $got $(cat "$tmp/err")"; fi
"$bb" echo hi >&- 2>/dev/null
want=$?
"$mayfly" run --engine bt --timeout 10 "$bb" echo hi >&- 2>/dev/null
got=$?
if [ $got -eq $want ]; then ok "closed stdout"; else not_ok "closed stdout" "status $got, on the host $want"; fi
"$mayfly" run --engine bt --timeout 10 "$bb" yes 2>/dev/null | head -n 1 >"$tmp/guest"
got=${PIPESTATUS[0]}
if [ "$got" -eq 141 ]; then ok "a reader that goes away: 141"; else not_ok "a reader that goes away" "status $got"; fi

# Their errors reach the program as on the host: a reader that goes away, a full disk.
# errors NAME TARGET COMMAND…: TARGET "pipe" or a file
errors() {
    local name=$1 target=$2 run want got
    shift 2
    for run in '' "$mayfly run --engine bt --timeout 20"; do
        if [ "$target" = pipe ]; then
            # shellcheck disable=SC2086
            $run "$@" 2>"$tmp/err" </dev/null | head -n 1 >"$tmp/guest"
            got="${PIPESTATUS[0]} $(cat "$tmp/guest" "$tmp/err" | tr '\n' ' ')"
        else
            # shellcheck disable=SC2086
            $run "$@" 2>"$tmp/err" </dev/null >"$target"
            got="$? $(tr '\n' ' ' <"$tmp/err")"
        fi
        [ -n "$run" ] || want=$got
    done
    if [ "$got" = "$want" ]; then ok "$name"; else not_ok "$name" "$got, on the host $want"; fi
}
errors 'EPIPE where SIGPIPE is ignored' pipe "$bb" sh -c 'trap "" PIPE; while echo y; do :; done; exit 5'
errors 'SIGPIPE caught' pipe "$bb" sh -c 'trap "exit 4" PIPE; while echo y; do :; done'
errors 'SIGPIPE' pipe "$bb" yes
errors 'ENOSPC' /dev/full "$bb" sh -c 'echo hi || exit 3; exit 4'
errors 'ENOSPC, many writes' /dev/full "$bb" yes

# --- a terminal: the host's own, with what the program makes of it ------------------------------------
# tty KEYS ARG…: mayfly on a terminal of its own, KEYS typed after a while; what it shows in guest.
tty() {
    local keys=$1
    shift
    # shellcheck disable=SC2059
    { sleep 0.5; printf "$keys"; sleep 0.5; } |
        timeout 20 script -qec "$(printf '%q ' "$mayfly" run --engine bt "$@"); echo status \$?; stty -a" /dev/null >"$tmp/guest" 2>&1
}
if command -v script >/dev/null; then
    tty 'echo $((6*7))xy\x7f\nexit 3\n' "$bb" sh # the shell does its own editing
    if grep -q '^42x.$' "$tmp/guest" && grep -q 'status 3' "$tmp/guest"; then ok "tty: a shell"; else not_ok "tty: a shell" "$(tr -cd '[:print:]\n' <"$tmp/guest" | head -n 8 | tr '\n' ';')"; fi
    tty 'k\x03' "$bb" sh
    if grep -qw icanon "$tmp/guest" && ! grep -q -e -icanon -e -isig -e ' -echo ' "$tmp/guest"; then ok "tty: as it was"; else not_ok "tty: as it was" "$(tail -n 8 "$tmp/guest")"; fi
    tty '' "$bb" stty -a
    if grep -q 'intr = ^C.*' "$tmp/guest" && grep -q 'status 0' "$tmp/guest"; then ok "tty: its modes"; else not_ok "tty: its modes" "$(head -n 5 "$tmp/guest")"; fi
    # In the background it stops where it changes the terminal, and can be ended there.
    timeout 20 script -qec "$(printf '%q ' timeout -k 5 0.7 "$mayfly" run --engine bt "$bb" sh); echo status \$?; stty -a" /dev/null >"$tmp/guest" 2>&1 </dev/null
    if grep -q 'status 124' "$tmp/guest" && grep -qw icanon "$tmp/guest"; then ok "tty: ended in the background"; else not_ok "tty: ended in the background" "$(tail -n 8 "$tmp/guest")"; fi
else
    skipped "tty" "no script(1)"
fi

# --- stdout and stderr as one file ------------------------------------------------------------------
lines='i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i + 1)); done'
/bin/busybox sh -c "$lines" >"$tmp/host" 2>&1
for engine in $(engines); do
    "$mayfly" run --engine "$engine" --timeout 30 /bin/busybox sh -c "$lines" >"$tmp/file" 2>&1
    "$mayfly" run --engine "$engine" --timeout 30 /bin/busybox sh -c "$lines" 2>&1 | cat >"$tmp/pipe"
    if cmp -s "$tmp/host" "$tmp/file" && cmp -s "$tmp/host" "$tmp/pipe"; then
        ok "$engine: stdout and stderr in order"
    else
        not_ok "$engine: stdout and stderr in order" "$(diff "$tmp/host" "$tmp/pipe" | head -n 3 | tr '\n' ';')"
    fi
done

# --- what is no program of ours ---------------------------------------------------------------------
refuse() { want "refused: $1" 126 "$3" run --engine bt "$2"; } # NAME FILE PATTERN
refuse "dynamic" /bin/ls 'dynamically linked.*-static'
printf '#!/bin/sh\necho hi\n' >"$tmp/script"
refuse "script" "$tmp/script" 'a script for /bin/sh: run .*--share'
head -c 3000 $p/args.musl >"$tmp/cut"
refuse "truncated" "$tmp/cut" 'truncated'
# Fields of the program headers: e_phoff 64, 56 bytes each; p_type 0, p_vaddr 16, p_filesz 32,
# p_memsz 40. poke FILE OFFSET BYTES
poke() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
header() { readelf -lW "$1" | awk '/^  [A-Z]/ && !/Type/ { if ($1 == "LOAD") { print n; exit } n++ }' n=0; }
first=$((64 + 56 * $(header $p/args.musl)))
cp $p/args.musl "$tmp/zero" && poke "$tmp/zero" $((first + 16)) '\0\0\0\0\0\0\0\0'
refuse "maps at 0" "$tmp/zero" 'address 0x0'
cp $p/args.musl "$tmp/huge" && poke "$tmp/huge" $((first + 40)) '\377\377\377\377\377\377\377\177'
refuse "a huge segment" "$tmp/huge" 'does not fit\|overlaps'
cp $p/args.musl "$tmp/over" && poke "$tmp/over" $((first + 40)) '\0\0\0\001\0\0\0\0'
refuse "overlapping segments" "$tmp/over" 'overlaps'
cp $p/args.musl "$tmp/entry" && poke "$tmp/entry" 24 '\0\0\0\0\0\0\0\0'
refuse "an entry outside" "$tmp/entry" 'entry point'
cp $p/args.musl "$tmp/thirty" && poke "$tmp/thirty" 4 '\001'
printf '.globl _start\n_start: nop\n' | as --32 -o "$tmp/32.o" && ld -m elf_i386 -o "$tmp/32" "$tmp/32.o"
refuse "32-bit" "$tmp/32" '32-bit.*build it for x86-64'
refuse "32-bit class" "$tmp/thirty" '32-bit\|damaged\|program headers'
finish
