#!/bin/bash
# Programs with the runtime in one bootable image: mayfly-cc and libmayfly.a, from the build and as
# installed.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
g=build/guests

# gives NAME STATUS FILE COMMAND…: status and stdout.
gives() {
    local name=$1 want=$2 file=$3 got
    shift 3
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    if [ $got -eq "$want" ] && cmp -s "$tmp/out" "$file"; then
        ok "$name"
    else
        not_ok "$name" "status $got, not $want: $(head -c 300 "$tmp/out" "$tmp/err")"
    fi
}

printf 'hello, world\ntwo words\n\n' >"$tmp/hello"
for engine in bt interp; do
    gives "$engine hello.img" 7 "$tmp/hello" "$mayfly" run --engine $engine --timeout 60 $g/hello.img 'two words' '' --exit 7
done
gives "hello.img, arguments over a page" 0 <(printf 'hello, world\n%05000d\n' 5) "$mayfly" run --timeout 60 $g/hello.img "$(printf %05000d 5)"

make -s install DESTDIR="$tmp/root" PREFIX=/usr >"$tmp/log" 2>&1 || not_ok install "$(tail -n 3 "$tmp/log")"
cc=$tmp/root/usr/bin/mayfly-cc
for f in bin/mayfly bin/mayfly-cc include/mayfly/bootblock.h lib/mayfly/libmayfly.a lib/mayfly/mayfly.ld; do
    [ -s "$tmp/root/usr/$f" ] || not_ok install "no $f"
done

cat >"$tmp/sum.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int twice(int);
int main(int argc, char **argv)
{
    int n, sum = 0;
    char cwd[100];
    while (scanf("%d", &n) == 1)
        sum += twice(n);
    printf("%d %s %s %s %d\n", sum, argv[argc - 1], getenv("WORD"), getcwd(cwd, sizeof cwd), isatty(1));
    return 9;
}
END
echo 'int twice(int n) { return 2 * n; }' >"$tmp/twice.c"
(cd "$tmp" && "$cc" -O1 -c twice.c && "$cc" -O1 -o sum.img sum.c twice.o) || not_ok mayfly-cc "status $?"
echo '110 last a b /tmp 0' >"$tmp/sum"
gives "mayfly-cc: objects, sources, stdin, --env, --cwd" 9 "$tmp/sum" \
    sh -c "seq 1 10 | $mayfly run --env 'WORD=a b' --cwd /tmp --timeout 60 $tmp/sum.img first last"

for kind in "glibc:gcc -static" "pie:gcc -static-pie"; do
    ${kind#*:} -o "$tmp/args" tests/progs/args.c
    "$tmp/args" one 'two words' >"$tmp/args.out"
    status=$?
    "$cc" --program "$tmp/args" -o "$tmp/args.img"
    gives "mayfly-cc --program: ${kind%%:*}" $status "$tmp/args.out" "$mayfly" run --timeout 60 "$tmp/args.img" one 'two words'
done

# --- booted by PVH, without mayfly's boot block and calls ---------------------------------------------
musl-gcc -O1 -static -o "$tmp/threads" tests/progs/threads.c && "$cc" --program "$tmp/threads" -o "$tmp/threads.img"
"$tmp/threads" >"$tmp/threads.out"
threads=$?
printf 'hello, world\na\nb\n' >"$tmp/hello"
# On a serial line lines end with CR LF.
serial() { "$@" | tr -d '\r'; return "${PIPESTATUS[0]}"; }
for engine in bt interp; do
    gives "$engine PVH" 4 "$tmp/hello" serial "$mayfly" run --engine $engine --timeout 60 --boot pvh $g/hello.img a --exit 4 b
    gives "$engine PVH: threads, timers" $threads "$tmp/threads.out" serial "$mayfly" run --engine $engine --timeout 60 --boot pvh "$tmp/threads.img"
done
truncate -s 64K "$tmp/disk"
sha256sum <"$tmp/disk" | sed 's/-/\/dev\/vda/' >"$tmp/disk.out"
"$cc" --program "$(command -v busybox)" -o "$tmp/busybox.img"
gives "PVH: a disk" 0 "$tmp/disk.out" serial "$mayfly" run --timeout 60 --boot pvh --disk "$tmp/disk" "$tmp/busybox.img" sha256sum /dev/vda
year=$("$mayfly" run --timeout 60 --boot pvh "$tmp/busybox.img" date -u +%F%H | tr -d '\r')
if [ "$year" = "$(date -u +%F%H)" ] || [ "$year" = "$(date -u -d '1 minute ago' +%F%H)" ]; then ok "PVH: the time of day"; else not_ok "PVH: the time of day" "$year"; fi
if command -v qemu-system-x86_64 >/dev/null; then
    accel=
    qemu() { # IMAGE ARG…
        local image=$1
        shift
        # shellcheck disable=SC2086
        timeout 60 qemu-system-x86_64 -M q35 $accel -nodefaults -display none -serial stdio -no-reboot \
            -device isa-debug-exit,iobase=0xf4,iosize=4 -kernel "$image" -append "$*" </dev/null | tr -d '\r'
        return "${PIPESTATUS[0]}"
    }
    gives "QEMU" 9 "$tmp/hello" qemu $g/hello.img a --exit 4 b
    gives "QEMU: threads, timers" $((threads * 2 + 1)) "$tmp/threads.out" qemu "$tmp/threads.img"
    # KVM of either kind: with VMX or SVM, or one that interprets CPL 0 (ring3.c).
    if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
        accel="-accel kvm -cpu host"
        gives "QEMU with KVM" 9 "$tmp/hello" qemu $g/hello.img a --exit 4 b
        gives "QEMU with KVM: threads, timers" $((threads * 2 + 1)) "$tmp/threads.out" qemu "$tmp/threads.img"
        accel=
    else
        skipped "QEMU with KVM" "no /dev/kvm"
    fi
    # Its microvm has virtio-mmio, and names the devices on the command line.
    microvm() { # IMAGE ARGS OPTION…
        local image=$1 args=$2
        shift 2
        exec timeout 60 qemu-system-x86_64 -M microvm,acpi=off -nodefaults -display none -serial stdio -no-reboot \
            -global virtio-mmio.force-legacy=false "$@" -kernel "$image" -append "$args" </dev/null
    }
    musl-gcc -O1 -static -o "$tmp/check" tests/progs/disk.c && "$cc" --program "$tmp/check" -o "$tmp/check.img"
    head -c 99840 /dev/urandom >"$tmp/disk"
    cp "$tmp/disk" "$tmp/file"
    "$tmp/check" "$tmp/file" 3 >"$tmp/check.out"
    gives "QEMU microvm: a disk" 0 "$tmp/check.out" serial microvm "$tmp/check.img" "/dev/vda 3" \
        -drive id=d,file="$tmp/disk",if=none,format=raw -device virtio-blk-device,drive=d
    if cmp -s "$tmp/disk" "$tmp/file"; then ok "QEMU microvm: what it wrote"; else not_ok "QEMU microvm: what it wrote" ""; fi
    if [ -s $g/runtime_net.elf ]; then
        port=$((30000 + RANDOM % 10000)) bb=$(command -v busybox)
        "$cc" --net --program $g/http-echo -o "$tmp/server.img"
        microvm "$tmp/server.img" 80 -netdev user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:$port-:80 \
            -device virtio-net-device,netdev=n >"$tmp/server" 2>&1 &
        for _ in $(seq 200); do
            grep -q listening "$tmp/server" && break
            sleep 0.05
        done
        head -c 500000 /dev/urandom >"$tmp/body"
        (printf 'POST / HTTP/1.1\r\nContent-Length: 500000\r\nConnection: close\r\n\r\n'; cat "$tmp/body") |
            "$bb" nc 127.0.0.1 $port | tail -c 500000 >"$tmp/back"
        kill $!
        wait $! 2>/dev/null
        if cmp -s "$tmp/body" "$tmp/back"; then ok "QEMU microvm: a network"; else not_ok "QEMU microvm: a network" "$(cat "$tmp/server")"; fi
    fi
else
    skipped "images in QEMU" "no qemu-system-x86_64"
fi

# --- with the network, here by vsock: both boots ------------------------------------------------------
if [ -s $g/runtime_net.elf ]; then
    "$cc" --net --program $g/function -o "$tmp/function.img" || not_ok "mayfly-cc --net" "status $?"
    gcc -D_GNU_SOURCE -O2 -o "$tmp/vsock_host" tests/vsock_host.c || not_ok "build vsock_host" ""
    for boot in elf pvh; do
        "$mayfly" run --boot $boot --timeout 60 --vsock "3,uds=$tmp/v.sock" "$tmp/function.img" --vsock 5000 1 \
            >"$tmp/server" 2>&1 </dev/null &
        for _ in $(seq 100); do
            "$tmp/vsock_host" ask "$tmp/v.sock" 5000 '{"name":"you"}' >"$tmp/out" 2>&1 && break
            sleep 0.05
        done
        wait $!
        status=$?
        if [ $status -eq 0 ] && [ "$(cat "$tmp/out")" = '{"greeting":"hello, you"}' ]; then
            ok "mayfly-cc --net, $boot boot"
        else
            not_ok "mayfly-cc --net, $boot boot" "status $status: $(cat "$tmp/out" "$tmp/server")"
        fi
    done
else
    skipped "mayfly-cc --net" "built without lwIP (guests/runtime/net/lwip.sh)"
fi

refuses() { # NAME PATTERN COMMAND…
    local name=$1 pattern=$2
    shift 2
    if "$@" >"$tmp/out" 2>&1; then
        not_ok "$name" "status 0"
    elif ! grep -q "$pattern" "$tmp/out" || [ "$(wc -l <"$tmp/out")" -ne 1 ]; then
        not_ok "$name" "$(head -c 300 "$tmp/out")"
    else
        ok "$name"
    fi
}
refuses "mayfly-cc: dynamic" 'dynamically linked' "$cc" --program /bin/ls -o "$tmp/x.img"
refuses "mayfly-cc: no program" 'no ELF program' "$cc" --program "$tmp/sum.c" -o "$tmp/x.img"
head -c 3000 "$tmp/args" >"$tmp/cut"
refuses "mayfly-cc: a truncated program" 'damaged' "$cc" --program "$tmp/cut" -o "$tmp/x.img"
refuses "mayfly-cc: a 32-bit program" 'not an x86-64' "$cc" --program $g/selftest -o "$tmp/x.img"
refuses "an image without a program" 'no program inside' "$mayfly" run --timeout 10 $g/runtime.elf
if [ -e "$tmp/x.img" ] || ls -d "$tmp"/x.img.* "$tmp"/sum.img.* >/dev/null 2>&1; then
    not_ok "mayfly-cc leaves nothing behind" "$(ls "$tmp")"
else
    ok "mayfly-cc leaves nothing behind"
fi
finish
