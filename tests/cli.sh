#!/bin/bash
# The command line as a user meets it: statuses, one line of words each, signals, stdin and stdout,
# the terminal. The guests are a few bytes of 32-bit code behind a multiboot header, made here.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# image FILE CODE: a multiboot image (header with addresses, at 1 MiB), CODE as printf escapes.
image() {
    # magic, flags 0x10000, checksum, header, load, load end, bss end, entry
    printf '\x02\xb0\xad\x1b\x00\x00\x01\x00\xfe\x4f\x51\xe4\x00\x00\x10\x00\x00\x00\x10\x00' >"$1"
    printf '\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x10\x00' >>"$1"
    # shellcheck disable=SC2059
    printf "$2" >>"$1"
}
image "$tmp/spin" '\xeb\xfe'                                  # jmp .
image "$tmp/halt" '\xfb\xf4\xeb\xfd'                          # sti; hlt; jmp
image "$tmp/dead" '\xfa\xf4\xeb\xfd'                          # cli; hlt; jmp
image "$tmp/exit7" '\xb0\x07\xe6\xf4\xeb\xfe'                 # mov al,7; out 0xf4,al
image "$tmp/triple" '\x0f\x0b'                                # ud2, and no IDT
image "$tmp/yes" '\x66\xba\xf8\x03\xb0\x79\xee\xb0\x0a\xee\xeb\xf8' # "y\n" for ever on 0x3f8
# IER = 1; loop: wait for LSR.DR; echo a byte; 'q' leaves with status 5
image "$tmp/echo" '\x66\xba\xf9\x03\xb0\x01\xee\x66\xba\xfd\x03\xec\xa8\x01\x74\xf7\x66\xba\xf8\x03\xec\xee\x3c\x71\x75\xed\xb0\x05\xe6\xf4\xeb\xfe'
# "prompt> " without a line feed, then halt
image "$tmp/prompt" '\x66\xba\xf8\x03\xb0\x3e\xee\xb0\x20\xee\xfb\xf4\xeb\xfd'
: >"$tmp/empty"
echo "just some words, and no kernel" >"$tmp/text"

# is NAME STATUS GOT [DETAIL]
is() {
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$3', not '$2' ${4:-}"; fi
}
run() { timeout 20 "$mayfly" run --engine "$engine" "$@"; }
engine=${ENGINE:-interp}

# --- wrong usage -----------------------------------------------------------------------------------
want 'no arguments' 125 'no command'
want 'unknown command' 125 "'walk'" walk
want 'no guest' 125 'no guest' run
want 'no guest after options' 125 'no guest' run -m 64M
want 'empty guest name' 125 'empty' run ''
want 'unknown long option' 125 "'--fast'" run --fast "$tmp/exit7"
want 'unknown short option' 125 "'-z'" run -z "$tmp/exit7"
want 'option without its value' 125 'needs a value' run --memory
want 'short option without its value' 125 'needs a value' run -m
want 'value for a flag' 125 'no value' run --version=2 "$tmp/exit7"
want 'cpus 0' 125 'cpus 0' run --cpus 0 "$tmp/exit7"
want 'cpus 17' 125 '1 to 16' run --cpus 17 "$tmp/exit7"
want 'cpus x' 125 'cpus' run --cpus x "$tmp/exit7"
want 'memory 1T' 125 'fit' run -m 1T "$tmp/exit7"
want 'memory overflows' 125 'smaller' run -m 99999999T "$tmp/exit7"
want 'memory is no size' 125 '128M' run -m lots "$tmp/exit7"
want 'memory 0' 125 'at least' run -m 0 "$tmp/exit7"
want 'bt-cache too small' 125 '1M to' run --bt-cache 500K "$tmp/exit7"
want 'bt-cache too large' 125 '1M to' run --bt-cache 99999999T "$tmp/exit7"
want 'bt-cache is no size' 125 '16M' run --bt-cache much "$tmp/exit7"
want 'timeout 0' 125 'timeout 0' run --timeout 0 "$tmp/exit7"
want 'timeout of an age' 125 '30 years' run --timeout 99999999999 "$tmp/exit7"
want 'timeout is no number' 125 'timeout' run --timeout soon "$tmp/exit7"
want 'unknown engine' 125 'auto, kvm, bt, interp' run --engine warp "$tmp/exit7"
want 'unknown boot' 125 'multiboot' run --boot dos "$tmp/exit7"
want 'seccomp maybe' 125 'on, off' run --seccomp maybe "$tmp/exit7"
want 'stats without a name' 125 'stats=' run --stats= "$tmp/exit7"
want 'check with an argument' 125 'no arguments' check now
want '--env for a kernel' 125 '--env is for programs' run --env A=b "$tmp/exit7"
want '--cwd for a kernel' 125 '--cwd is for programs' run --cwd /tmp "$tmp/exit7"
want '--cwd with a line feed' 125 'no such directory' run --cwd $'/a\nb' hello
want 'ip= for a kernel' 125 'ip= is for programs' run --net user,ip=10.0.2.15/24 "$tmp/exit7"
want 'ip= for the second card' 125 'ip= is for the first card' run --net user --net user,ip=10.0.2.15/24 hello
want '--initrd for a program' 125 '--initrd is for kernels' run --initrd "$tmp/text" hello
"$mayfly" hvt --help >"$tmp/out"
is 'hvt --help names the options of the tender' 4 "$(grep -o -e '--mem=MIB' -e '--block:' -e '--block-sector-size:' -e '--net-mac:' "$tmp/out" | wc -l)"
for args in --help check --version 'run --help'; do
    # shellcheck disable=SC2086
    "$mayfly" $args >/dev/full 2>"$tmp/err"
    is "$args on a full disk" "125 1" "$? $(grep -c 'stdout: No space' "$tmp/err")"
done

# --- files -----------------------------------------------------------------------------------------
want 'no such image' 127 'No such file' run "$tmp/nothing"
want 'a path through a file' 127 'Not a directory' run "$tmp/empty/x"
want 'a directory' 126 'a directory' run "$tmp"
want 'an empty file' 126 'empty' run "$tmp/empty"
want 'a text file' 126 'takes' run "$tmp/text"
want '/bin/ls' 126 'takes\|program' run /bin/ls
want 'a device' 126 'a device' run /dev/zero
gcc -shared -nostdlib -o "$tmp/lib.so" -x c /dev/null
want 'a shared library' 126 'a shared library' run "$tmp/lib.so"
# Nothing in it names Linux or a C library.
# shellcheck disable=SC2016
printf '.globl _start\n_start: mov $60, %%eax\nmov $9, %%edi\nsyscall\n' | as -o "$tmp/asm.o" &&
    ld -static -o "$tmp/asm" "$tmp/asm.o"
run "$tmp/asm" 2>"$tmp/err"
is "the assembler's and linker's own program" 9 $? "$(head -n 1 "$tmp/err")"
want 'a program as a kernel' 126 'leave --boot out' run --boot linux "$tmp/asm"
mkfifo "$tmp/fifo"
want 'a pipe' 126 'a pipe' run "$tmp/fifo"
want 'an image name with a line feed' 127 'No such file' run "$tmp/a
b"
want 'no such initrd' 127 'initrd' run --initrd "$tmp/nothing" "$tmp/exit7"
want 'an empty initrd' 126 'initrd.*empty' run --initrd "$tmp/empty" "$tmp/exit7"
want 'a directory as initrd' 126 'initrd.*directory' run --initrd "$tmp" "$tmp/exit7"
truncate -s 64M "$tmp/big"
want 'an initrd that does not fit' 126 'initrd\|module' run -m 16M --initrd "$tmp/big" "$tmp/exit7"
# As somebody who may not read everything.
chmod 755 "$tmp"
cp "$tmp/text" "$tmp/secret"
chmod 0 "$tmp/secret"
if [ "$(id -u)" -ne 0 ]; then
    want 'an unreadable image' 126 'Permission denied' run "$tmp/secret"
else
    cp "$mayfly" "$tmp/mayfly"
    mayfly_cmd=(timeout 20 setpriv --reuid=65534 --regid=65534 --clear-groups "$tmp/mayfly")
    want 'an unreadable image' 126 'Permission denied' run "$tmp/secret"
    want 'an unreadable initrd' 126 'Permission denied' run --initrd "$tmp/secret" "$tmp/exit7"
    if [ -e /dev/kvm ] && ! "${mayfly_cmd[@]}" check | grep -q '^kvm *\(hard\|soft\)ware'; then
        want '/dev/kvm may not be opened' 125 'engine bt' run --engine kvm "$tmp/exit7"
        "${mayfly_cmd[@]}" run "$tmp/exit7" 2>"$tmp/err"
        is 'auto does without it' 7 $? "$(cat "$tmp/err")"
    else
        skipped '/dev/kvm may not be opened' 'it may be, or is not there'
    fi
    mayfly_cmd=(timeout 20 "$mayfly")
fi

# --- a socket's name: taken over from a mayfly that was killed, never from anything else -------------
want 'GDB at a file' 125 'no socket' run --gdb "unix:$tmp/text" "$tmp/exit7"
is 'the file stays' 31 "$(wc -c <"$tmp/text")"
want 'GDB in a folder that is not there' 125 'directory first' run --gdb "unix:$tmp/none/gdb" "$tmp/exit7"
"$mayfly" run --gdb "unix:$tmp/gdb" "$tmp/spin" 2>"$tmp/err" &
pid=$!
for ((i = 0; i < 200; i++)); do
    grep -q waits "$tmp/err" && break
    sleep 0.02
done
want 'GDB where another listens' 125 'in use' run --gdb "unix:$tmp/gdb" "$tmp/exit7"
kill -KILL $pid
wait $pid 2>/dev/null
is 'killed, it leaves the socket' yes "$([ -S "$tmp/gdb" ] && echo yes)"
run --gdb "unix:$tmp/gdb,nowait" "$tmp/exit7" 2>"$tmp/err"
is 'which the next one takes over' 7 $? "$(cat "$tmp/err")"
is 'and removes' no "$([ -e "$tmp/gdb" ] && echo yes || echo no)"

# --- the statistics file ---------------------------------------------------------------------------
want 'an unwritable stats file' 125 'stats file' run --stats=/nonexistent/x "$tmp/exit7"
want 'a directory as stats file' 125 'stats file' run "--stats=$tmp" "$tmp/exit7"
echo precious >"$tmp/old"
want 'a refused run' 126 'takes' run "--stats=$tmp/old" "$tmp/text"
is 'a refused run leaves the old stats file alone' precious "$(cat "$tmp/old")"
want 'another refused run' 126 'takes' run "--stats=$tmp/new" "$tmp/text"
is 'a refused run leaves no new stats file' no "$([ -e "$tmp/new" ] && echo yes || echo no)"
seq 100000 >"$tmp/old"
run "--stats=$tmp/old" "$tmp/exit7" 2>"$tmp/err"
is 'a run with statistics' 7 $? "$(cat "$tmp/err")"
is 'JSON replaces the old content' '{ }' "$(sed -n '1p;$p' "$tmp/old" | tr '\n' ' ' | sed 's/ $//')"
is 'JSON has the status' 1 "$(grep -c '"status": 7' "$tmp/old")"
run --stats=/dev/full "$tmp/exit7" 2>"$tmp/err"
is 'JSON that cannot be written: the status is the guest'"'"'s' 7 $?
is 'JSON that cannot be written is told' 1 "$(grep -c "^mayfly: stats file '/dev/full': No space left" "$tmp/err")"
run --stats "$tmp/exit7" 2>"$tmp/err"
is 'the table has the launch steps' 1 "$(grep -c loaded_to_first_insn "$tmp/err")"

# --- statuses --------------------------------------------------------------------------------------
run "$tmp/exit7" 2>"$tmp/err"
is "the guest's own status" 7 $? "$(cat "$tmp/err")"
is 'nothing is said' 0 "$(wc -c <"$tmp/err")"
run "$tmp/triple" >"$tmp/out" 2>"$tmp/err"
is 'a triple fault' 134 $?
is 'the report has the registers' 1 "$(grep -c '^  rip 0*100020 ' "$tmp/err")"
is 'the report has the code' 1 "$(grep -c '^  code at 0*100020: 0f 0b' "$tmp/err")"
is 'the report is not on stdout' 0 "$(wc -c <"$tmp/out")"
for g in spin halt; do
    run --timeout 0.2 "$tmp/$g" 2>"$tmp/err"
    is "a timeout stops $g" 124 $? "$(cat "$tmp/err")"
done
for n in 1 4; do
    run --cpus $n "$tmp/dead" 2>"$tmp/err"
    is "halted for good, $n CPUs" 123 $? "$(cat "$tmp/err")"
    is "it is said, $n CPUs" 1 "$(grep -c '^mayfly: the guest halted with interrupts off' "$tmp/err")"
done
run --cpus 4 "$tmp/exit7"
is "the guest's status with 4 CPUs" 7 $?
run --cpus 4 --timeout 0.2 "$tmp/spin"
is 'a timeout with 4 CPUs' 124 $?
run --cpus 4 "$tmp/triple" >"$tmp/out" 2>"$tmp/err"
is 'a triple fault with 4 CPUs' 134 $?
is 'one report, with the CPU' '1 1' "$(grep -c '^mayfly' "$tmp/err") $(grep -c 'on CPU 0' "$tmp/err")"
for s in INT:130 TERM:143 HUP:129 QUIT:131; do
    # A script's background job ignores INT and QUIT, and mayfly respects that.
    env --default-signal=INT,QUIT "$mayfly" run --engine "$engine" "$tmp/halt" &
    pid=$!
    sleep 0.3
    kill -"${s%:*}" $pid
    wait $pid
    is "SIG${s%:*}" "${s#*:}" $?
done
# ended NAME: SIGTERM ends $pid, in time.
ended() {
    sleep 0.3
    kill -TERM $pid
    { sleep 5; kill -KILL $pid; } 2>/dev/null &
    wait $pid 2>/dev/null
    is "$1" 143 $?
    kill $! 2>/dev/null
}
env --block-signal=TERM "$mayfly" run --engine "$engine" "$tmp/spin" &
pid=$!
ended 'SIGTERM, blocked by who started it'
# The line for it has nobody to read it.
mkfifo "$tmp/full"
exec 9<>"$tmp/full"
dd if=/dev/zero of="$tmp/full" bs=4096 oflag=nonblock 2>/dev/null
"$mayfly" run --engine "$engine" "$tmp/dead" 2>&9 &
pid=$!
ended 'SIGTERM while its words wait on stderr'
exec 9<&-
"$mayfly" run --engine "$engine" "$tmp/spin" &
pid=$!
sleep 0.3
kill -TERM $pid
wait $pid 2>/dev/null
is 'SIGTERM to a spinning guest' 143 $?

# --- stdin, stdout ---------------------------------------------------------------------------------
is 'stdin to the guest and back' 'some words q' "$(echo 'some words quit' | run "$tmp/echo")"
echo abcq | run "$tmp/echo" >/dev/null
is 'the status after input' 5 $?
head -c 5000 /dev/zero | tr '\0' x >"$tmp/in"
echo q >>"$tmp/in"
is 'input longer than every queue' 5001 "$(run "$tmp/echo" <"$tmp/in" | wc -c)"
run --timeout 0.3 "$tmp/halt" <&-
is 'stdin closed' 124 $?
run "$tmp/yes" 2>"$tmp/err" | head -n 1 >"$tmp/out"
is 'stdout to head' 141 "${PIPESTATUS[0]}" "$(cat "$tmp/err")"
is 'what head got' y "$(cat "$tmp/out")"
is 'nothing is said about head' 0 "$(wc -c <"$tmp/err")"
run "$tmp/yes" >&- 2>"$tmp/err"
is 'stdout closed' 125 $?
is 'a closed stdout is told' 1 "$(grep -c '^mayfly: stdout' "$tmp/err")"
run "$tmp/yes" 2>"$tmp/err" >/dev/full
is 'stdout full' 125 $?
# A reader that reads nothing for a while: the guest waits, the time-out does not.
run --timeout 0.5 "$tmp/yes" 2>"$tmp/err" | { sleep 1; wc -c >"$tmp/out"; }
is 'a timeout while stdout is full' 124 "${PIPESTATUS[0]}" "$(cat "$tmp/err")"
is 'a prompt without a line feed' '> ' "$(run --timeout 0.3 "$tmp/prompt")"

# --- limits ----------------------------------------------------------------------------------------
(ulimit -v 65536; exec timeout 20 "$mayfly" run --engine interp -m 128M "$tmp/exit7") >"$tmp/out" 2>"$tmp/err"
is 'ulimit -v' 125 $? "$(cat "$tmp/err")"
is 'ulimit -v is told' 1 "$(grep -c '^mayfly: .*ulimit -v' "$tmp/err")"
(ulimit -d 1000; exec timeout 20 "$mayfly" run --engine interp -m 128M "$tmp/exit7") >"$tmp/out" 2>"$tmp/err"
is 'ulimit -d' 125 $? "$(cat "$tmp/err")"
is 'ulimit -d is told' 1 "$(grep -c '^mayfly: .*ulimit -d' "$tmp/err")"
(ulimit -i 0; exec "$mayfly" run --engine bt --timeout 20 "$tmp/exit7") >"$tmp/out" 2>"$tmp/err"
is 'ulimit -i' 125 $? "$(cat "$tmp/err")"
is 'ulimit -i is told' 1 "$(grep -c '^mayfly: .*ulimit -i' "$tmp/err")"

# --- words -----------------------------------------------------------------------------------------
for w in --help -h help; do
    "$mayfly" $w >"$tmp/out" 2>"$tmp/err"
    is "$w" '0 0' "$? $(wc -c <"$tmp/err")"
    is "$w lists the statuses" 1 "$(grep -c '124 .*timeout' "$tmp/out")"
done
"$mayfly" run --help >"$tmp/out" 2>&1
is 'run --help' 0 $?
is '--version' 'mayfly ' "$("$mayfly" --version | tr -d '0-9.')"
"$mayfly" check >"$tmp/out" 2>"$tmp/err"
is check 0 $? "$(cat "$tmp/err")"
for w in kvm engine io_uring seccomp landlock limits tsc; do
    is "check tells of $w" 1 "$(grep -c "^$w " "$tmp/out")"
done

# --- the terminal ----------------------------------------------------------------------------------
# tty KEYS ARG…: mayfly on a terminal of its own, KEYS typed after a while; what it shows in out.
tty() {
    local keys=$1
    shift
    # shellcheck disable=SC2059
    { sleep 0.7; printf "$keys"; sleep 0.7; } |
        timeout 20 script -qec "$(printf '%q ' "$@"); echo status \$?; stty -a" /dev/null >"$tmp/out" 2>&1
}
if command -v script >/dev/null; then
    tty '\x01x' "$mayfly" run --engine "$engine" "$tmp/halt"
    is 'Ctrl-A x' 1 "$(grep -c 'status 130' "$tmp/out")" "$(head -c 300 "$tmp/out")"
    is 'the terminal is restored' 1 "$(grep -c ' icanon' "$tmp/out")"
    tty 'ab\x01\x01\x03q' "$mayfly" run --engine "$engine" "$tmp/echo"
    is 'Ctrl-A Ctrl-A and Ctrl-C reach the guest' 1 "$(grep -c "$(printf 'ab\x01\x03q')" "$tmp/out")"
    is 'the status on a terminal' 1 "$(grep -c 'status 5' "$tmp/out")"
    tty '\x01h\x01x' "$mayfly" run --engine "$engine" "$tmp/halt"
    is 'Ctrl-A h' 1 "$(grep -c 'Ctrl-A x quits' "$tmp/out")"
    tty '' "$mayfly" run --engine "$engine" --timeout 0.3 "$tmp/halt"
    is 'restored after a timeout' '1 1' "$(grep -c 'status 124' "$tmp/out") $(grep -c ' icanon' "$tmp/out")"
    tty '' timeout --foreground -s TERM 0.3 "$mayfly" run --engine "$engine" "$tmp/halt"
    is 'restored after SIGTERM' 1 "$(grep -c ' icanon' "$tmp/out")"
    tty '' timeout --foreground -s SEGV 0.3 "$mayfly" run --engine "$engine" "$tmp/halt"
    is 'restored after a fault of its own' 1 "$(grep -c ' icanon' "$tmp/out")"
else
    skipped 'the terminal' 'no script(1)'
fi
finish
