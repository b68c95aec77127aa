#!/bin/bash
# Debian's kernel to /init under bt with each optimisation off, one at a time (without inline code at
# all it takes a minute: guests.sh has that), and with little memory for translations, so that they
# are thrown away hundreds of times.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
vmlinuz=.cache/vmlinuz
needs_debian "debian modes" "$vmlinuz"
# boot OPTION…
boot() {
    local name="debian bt $*" status
    "$mayfly" run --engine bt -m 256M --timeout 120 --stats="$tmp/stats" --initrd build/initrd.gz "$@" $vmlinuz \
        console=ttyS0 panic=-1 reboot=t t=boot </dev/null >"$tmp/out" 2>"$tmp/err"
    status=$?
    if [ $status -eq 0 ] && grep -q '^T: init' "$tmp/out"; then
        ok "$name"
    else
        not_ok "$name" "exit status $status; $(tail -n 1 "$tmp/out" | tr -d '\r' | cut -c1-120) $(tail -n 1 "$tmp/err")"
    fi
}
# stat NAME: the number of that name in the JSON of the last run.
stat() {
    sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" "$tmp/stats" | head -n 1
}
for option in chain liveness window trace low move pcid; do
    boot --bt-no-$option
done
boot --bt-eager
boot --bt-eager --bt-move-low
boot --bt-one-insn
boot --bt-cache 1M
flushes=$(stat bt_flushes)
if [ "${flushes:-0}" -gt 100 ] && [ "$(stat bt_code)" -le 589824 ] && [ "$(stat bt_tables)" -le 1048576 ]; then
    ok "translations stay in 1 MiB"
else
    not_ok "translations stay in 1 MiB" "$flushes flushes, $(stat bt_code) bytes of code, $(stat bt_tables) of tables"
fi
boot --bt-cache 4M -c 4
boot -c 1
all=$(stat bt_all)
if [ "${all:-99999999}" -le $((64 << 20)) ]; then
    ok "the engine's memory for Debian is at most 64 MiB"
else
    not_ok "the engine's memory for Debian is at most 64 MiB" "$all bytes"
fi
"$mayfly" run --engine bt --stats="$tmp/stats" hello >/dev/null 2>&1
all=$(stat bt_all)
if [ "${all:-99999999}" -le $((4 << 20)) ]; then
    ok "the engine's memory for hello is at most 4 MiB"
else
    not_ok "the engine's memory for hello is at most 4 MiB" "$all bytes"
fi
finish
