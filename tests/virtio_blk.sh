#!/bin/bash
# shellcheck source=tests/lib.sh source=tests/blk_lib.sh
# The block device under Debian's kernel and its own driver: files, an ext4 root, power-offs in the
# middle of writes, queue depth, errors of the host, and what the command line refuses.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/blk_lib.sh"

# --- what the command line refuses: no guest needed ---
truncate -s 1M "$tmp/a" && truncate -s 1M "$tmp/b" && truncate -s 1000 "$tmp/odd" && : >"$tmp/empty"
mkfifo "$tmp/fifo"
refuses "a missing file" "--disk $tmp/none: no such file" --disk "$tmp/none"
refuses "a directory" "--disk $tmp: a directory" --disk "$tmp"
refuses "an odd size" "--disk $tmp/odd: its size, 1000 bytes, is not a multiple of 512" --disk "$tmp/odd"
refuses "an empty file" "--disk $tmp/empty: empty" --disk "$tmp/empty"
refuses "a FIFO" "--disk $tmp/fifo: neither a file nor a block device" --disk "$tmp/fifo"
refuses "a word it does not know" "--disk $tmp/a,rw: 'rw' is not known" --disk "$tmp/a,rw"
refuses "a long serial" "--disk $tmp/a,serial=123456789012345678901: a serial" --disk "$tmp/a,serial=123456789012345678901"
refuses "no name" "--disk ,ro: no file name" --disk ",ro"
refuses "one file twice" "--disk $tmp/a: in use" --disk "$tmp/a" --disk "$tmp/a"
refuses "one file twice, once read-only" "--disk $tmp/a,ro: in use" --disk "$tmp/a" --disk "$tmp/a,ro"
nine=()
for i in 1 2 3 4 5 6 7 8 9; do
    truncate -s 1M "$tmp/d$i"
    nine+=(--disk "$tmp/d$i")
done
refuses "nine disks" "--disk $tmp/d9: --disk is given more than 8 times" "${nine[@]}"
chmod 444 "$tmp/b"
if [ "$(id -u)" -ne 0 ]; then
    refuses "a file it may not write" "--disk $tmp/b: cannot be written" --disk "$tmp/b"
elif chattr +i "$tmp/b" 2>/dev/null; then
    refuses "a file it may not write" "--disk $tmp/b: cannot be written" --disk "$tmp/b"
    chattr -i "$tmp/b"
else
    skipped "blk refuses a file it may not write" "root may write everything here"
fi
if timeout 20 "$mayfly" run --disk "$tmp/a,ro" --disk "$tmp/a,ro" hello >"$tmp/out" 2>"$tmp/err"; then
    ok "blk one file twice, read-only"
else
    not_ok "blk one file twice, read-only" "$(head -c 200 "$tmp/err")"
fi
truncate -s 1M "$tmp/x,y"
if timeout 20 "$mayfly" run --disk "$tmp/x,,y" hello >"$tmp/out" 2>"$tmp/err"; then
    ok "blk a comma in a name"
else
    not_ok "blk a comma in a name" "$(head -c 200 "$tmp/err")"
fi

# --- a guest of our own that polls the device, on every engine ---
{ printf 'text on the disk\n'; head -c 495 /dev/zero; } >"$tmp/text.img"
kvm=$("$mayfly" check 2>/dev/null | sed -n 's/^kvm *\([a-z]*\).*/\1/p')
for e in interp bt kvm; do
    if [ $e = kvm ] && [ "$kvm" != software ] && [ "$kvm" != hardware ]; then
        skipped "blk polled, kvm" "no /dev/kvm"
        continue
    fi
    timeout 60 "$mayfly" run --engine $e --timeout 30 --stats="$tmp/stats" --disk "$tmp/text.img" \
        build/guests/kvm/disk -- 200 >"$tmp/out" 2>"$tmp/err"
    status=$?
    writes=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["bus"]["mmio_writes"])' "$tmp/stats")
    if [ $status -ne 0 ] || [ "$(tr -d '\r\0' <"$tmp/out")" != "text on the disk" ]; then
        not_ok "blk polled, $e" "status $status, $(head -c 100 "$tmp/out") $(head -c 100 "$tmp/err")"
    elif [ $e = kvm ] && [ "$writes" -gt 30 ]; then
        not_ok "blk polled, kvm" "$writes MMIO writes left the kernel: no ioeventfd"
    else
        ok "blk polled, $e: 200 requests, $writes MMIO writes"
    fi
done

reason=$(no_guest)
if [ -n "$reason" ]; then
    skipped "blk under Debian" "$reason"
    finish
fi
blk_initrd || exit 1

mkdir -p "$tmp/tree/f"
head -c 5000000 /dev/urandom >"$tmp/tree/known"
sum=$(sha256sum <"$tmp/tree/known" | cut -d' ' -f1)
files() { # NAME WORDS
    local name="blk files, $1"
    image "$tmp/disk" 64 "$tmp/tree"
    if ! guest files --disk "$tmp/disk$2"; then
        not_ok "$name" "$(why)"
    elif [ "$(cat "$tmp/text")" != "T: mounted
T: sum $sum
T: copy $sum" ]; then
        not_ok "$name" "$(why)"
    elif ! clean "$tmp/disk"; then
        not_ok "$name" "fsck: $(tail -n 1 "$tmp/fsck")"
    elif [ "$(debugfs -R "cat copy" "$tmp/disk" 2>/dev/null | sha256sum | cut -d' ' -f1)" != "$sum" ] ||
        [ "$(debugfs -R "cat d/199" "$tmp/disk" 2>/dev/null)" != 199 ]; then
        not_ok "$name" "the image does not hold what was written"
    else
        ok "$name"
    fi
}
files "io_uring" ""
[ "$(stat_of io io_uring)" = 1 ] || skipped "blk over io_uring" "this host refuses it"
files "io_uring, direct" ",direct"
export MAYFLY_NO_IO_URING=1
files "threads" ""
grep -q "^mayfly: io_uring is not used: .*threads" "$tmp/err" || not_ok "blk notice of the fallback" "$(cat "$tmp/err")"
files "threads, direct" ",direct"
unset MAYFLY_NO_IO_URING

depth() { # NAME: the best of three: another load on the host makes the guest look busy
    local n i best=9
    for _ in 1 2 3; do
        image "$tmp/disk" 64
        if ! guest depth --disk "$tmp/disk,direct"; then
            not_ok "blk depth 32, $1" "$(why)"
            return
        fi
        n=$(stat_of blk0 notifications_per_request) i=$(stat_of blk0 interrupts_per_request)
        echo "# $1: $(grep depth "$tmp/text"), $n notifications and $i interrupts a request"
        best=$(awk "BEGIN { m = $n > $i ? $n : $i; print m < $best ? m : $best }")
        awk "BEGIN { exit !($best <= 0.10) }" && break
    done
    if awk "BEGIN { exit !($best <= 0.10) }"; then
        ok "blk depth 32, $1: at most 0.10 notifications and interrupts a request"
    else
        not_ok "blk depth 32, $1" "$best notifications or interrupts a request"
    fi
}
depth "io_uring"
MAYFLY_NO_IO_URING=1 depth "threads"

# Root file system on the disk.
rm -rf "$tmp/rootfs"
mkdir -p "$tmp"/rootfs/{bin,sbin,dev,proc,etc}
cp "$(command -v busybox)" "$tmp/rootfs/bin/busybox"
ln -s busybox "$tmp/rootfs/bin/sh"
cat >"$tmp/rootfs/sbin/init" <<'END'
#!/bin/sh
/bin/busybox --install -s /bin
PATH=/bin
echo "T: root $(grep ' / ext4 ' /proc/mounts | cut -d' ' -f1)"
echo written >/etc/mark
sync
poweroff -f
END
chmod 755 "$tmp/rootfs/sbin/init"
image "$tmp/disk" 64 "$tmp/rootfs"
if guest root --disk "$tmp/disk" && grep -qx "T: root /dev/vda" "$tmp/text" &&
    e2fsck -fp "$tmp/disk" >"$tmp/fsck" 2>&1; [ $? -le 1 ] &&
    [ "$(debugfs -R "cat etc/mark" "$tmp/disk" 2>/dev/null)" = written ]; then
    ok "blk ext4 root"
else
    not_ok "blk ext4 root" "$(why)"
fi

rm -f "$tmp/tree/known"
image "$tmp/disk" 64 "$tmp/tree"
power_offs "dd" power 10

# Two disks, one read-only.
truncate -s 3M "$tmp/one"
{ printf 'hello from the host'; head -c 1048557 /dev/zero; } >"$tmp/two"
chmod 444 "$tmp/two"
guest two --disk "$tmp/one,serial=abc" --disk "$tmp/two,ro,serial=12345678901234567890"
cat >"$tmp/expected" <<END
T: serial abc 12345678901234567890
T: ro 0 1
T: size 6144 2048
T: queue 512 write back
T: text hello from the host
END
if cmp -s "$tmp/text" "$tmp/expected"; then
    ok "blk two disks, read-only, serials"
else
    not_ok "blk two disks" "$(diff "$tmp/expected" "$tmp/text" | head -n 3 | tr '\n' ' ')"
fi

# Discard gives the host its blocks back.
image "$tmp/disk" 64
guest trim --disk "$tmp/disk"
kib=$(du -k "$tmp/disk" | cut -f1)
if grep -qx "T: trimmed" "$tmp/text" && clean "$tmp/disk" && [ "$kib" -lt 9000 ]; then
    ok "blk discard: 16 MiB written and removed, $kib KiB kept"
else
    not_ok "blk discard" "$kib KiB kept; $(why)"
fi

# Reset while requests are in flight.
image "$tmp/disk" 16
guest rebind --disk "$tmp/disk,direct"
if grep -qx "T: rebound 20 262144" "$tmp/text"; then
    ok "blk 20 resets under load"
else
    not_ok "blk 20 resets under load" "$(why)"
fi

# The file shrinks while the guest runs.
truncate -s 16M "$tmp/disk"
mkfifo "$tmp/key"
: >"$tmp/out" # before anybody looks for lines in it
(
    exec 3>"$tmp/key"
    for _ in $(seq 600); do
        grep -q '^T: shrink' "$tmp/out" 2>/dev/null && break
        sleep 0.05
    done
    truncate -s 1M "$tmp/disk"
    echo >&3
    sleep 1
) &
if input=$tmp/key guest shrink --disk "$tmp/disk" && grep -qx "T: I/O error" "$tmp/text"; then
    ok "blk a file that shrinks is an I/O error"
else
    not_ok "blk a file that shrinks" "$(why)"
fi
wait

# A host file system that is full.
mkdir -p "$tmp/small"
if mount -t tmpfs -o size=4m tmpfs "$tmp/small" 2>/dev/null; then
    truncate -s 32M "$tmp/small/disk"
    if guest full --disk "$tmp/small/disk" && [ "$(cat "$tmp/text")" = "T: I/O error
T: alive" ]; then
        ok "blk ENOSPC is an I/O error"
    else
        not_ok "blk ENOSPC" "$(why)"
    fi
    umount -l "$tmp/small" # the kernel may still be taking the ring of the last run apart
else
    skipped "blk ENOSPC" "cannot mount a tmpfs here"
fi

# An idle guest with a disk: what five more seconds cost.
exits() {
    python3 - "$tmp/stats" <<'END'
import json, sys
s = json.load(open(sys.argv[1]))
print(sum(s["exits"].values()) + sum(s["bus"].get(k, 0) for k in ("pio_reads", "pio_writes", "mmio_reads", "mmio_writes")))
END
}
append="$append s=1"
guest idle --disk "$tmp/one"
a=$(exits)
append="${append% s=1} s=6"
guest idle --disk "$tmp/one"
b=$(exits)
rate=$(((b - a) / 5))
if [ $rate -lt 100 ]; then
    ok "blk idle guest: $rate exits a second"
else
    not_ok "blk idle guest" "$rate exits a second"
fi
finish
