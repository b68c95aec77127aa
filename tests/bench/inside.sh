#!/bin/sh
# inside.sh BENCHBT REPS DIVISOR PROGRAM_REPS: the kernels, then the programs of `programs`, one row
# each. The same words here as in the guest; runs where its data is.
cd "$(dirname "$0")" || exit 1
$1 -o -r "$2" -d "$3"
[ "$4" -gt 0 ] || exit 0
while read -r name command; do
    # shellcheck disable=SC2086
    $1 exec "$name" "$4" $command
done <programs
echo end
