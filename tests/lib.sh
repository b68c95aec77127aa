# shellcheck shell=bash disable=SC2034
# Sourced by the shell tests. A case prints one line: "ok NAME", "not ok NAME: why" or
# "skipped NAME: why"; tests/run.sh counts them. The script's status is 1 when a case failed.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
mayfly=${MAYFLY:-$root/mayfly}
failures=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

ok() { echo "ok $*"; }
not_ok() {
    echo "not ok $1: $2"
    failures=$((failures + 1))
}
skipped() { echo "skipped $1: $2"; }
finish() { exit $((failures > 0)); }

# want NAME STATUS PATTERN ARG…: mayfly's status, and exactly one line on stderr, of mayfly's, that has
# the pattern. What was said stays in $tmp/out and $tmp/err.
mayfly_cmd=(timeout 20 "$mayfly")
want() {
    local name=$1 status=$2 pattern=$3 got
    shift 3
    "${mayfly_cmd[@]}" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    if [ $got -ne "$status" ]; then
        not_ok "$name" "status $got, not $status: $(head -c 200 "$tmp/err")"
    elif [ "$(wc -l <"$tmp/err")" -ne 1 ] || ! grep -q '^mayfly: ' "$tmp/err"; then
        not_ok "$name" "not one line: $(head -c 400 "$tmp/err")"
    elif ! grep -qi -- "$pattern" "$tmp/err"; then
        not_ok "$name" "no '$pattern' in: $(cat "$tmp/err")"
    else
        ok "$name"
    fi
}
# refused NAME PATTERN OPTION…: options that mayfly run says no to
refused() { want "$1" 125 "$2" run --engine "${engine:-bt}" "${@:3}" hello; }

# needs_debian NAME [FILE…]: of what tests/kernel.sh leaves in .cache; not there: this is the end.
needs_debian() {
    local name=$1 file
    shift
    for file in "${@:-.cache/vmlinuz}"; do
        if [ ! -s "$file" ]; then
            skipped "$name" "no Debian kernel in .cache (tests/kernel.sh)"
            finish
        fi
    done
}

# Engines to try here: bt and interp always, kvm where it opens.
engines() {
    echo interp bt
    if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then echo kvm; fi
}
