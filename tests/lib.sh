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

# Engines to try here: bt and interp always, kvm where it opens.
engines() {
    echo interp bt
    if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then echo kvm; fi
}
