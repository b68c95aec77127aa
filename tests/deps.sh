#!/bin/bash
# Install the Debian packages named, those that are missing. Nothing missing: quick and silent.
set -u
command -v dpkg-query >/dev/null || exit 0 # not Debian: the build itself will say what it lacks
missing=()
have=" $(dpkg-query -W -f '${db:Status-Status}=${Package} ' "$@" 2>/dev/null)"
for p in "$@"; do
    [[ $have == *" installed=$p "* ]] || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "mayfly needs packages that are not installed. As root:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
