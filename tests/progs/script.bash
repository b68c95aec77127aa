# Arrays, recursion, patterns, files, traps: what bash does without another process.
declare -A m
for i in {1..500}; do m[$((i * 7919 % 97))]+=$i; done
printf '%s\n' "${#m[@]}" "${m[5]}" "${m[12]:0:20}"
f() {
    local n=$1
    if ((n < 2)); then R=$n; else
        f $((n - 1))
        local a=$R
        f $((n - 2))
        R=$((R + a))
    fi
}
f 13
echo "fib $R"
[[ abc-123 =~ ^([a-z]+)-([0-9]+)$ ]] && echo "${BASH_REMATCH[2]}"
echo one >bash.out
echo two >>bash.out
mapfile -t lines <bash.out
echo "${lines[@]^^}"
while read -r l; do echo "> $l"; done <bash.out
trap 'echo bye' EXIT
trap 'echo user' USR1
kill -USR1 $$
printf '%(%Y)T\n' 0
echo $((2 ** 40)) ${RANDOM:+r} "$1"
read -r x
echo "read $? $x"
cd / && cd - >/dev/null && [ -e bash.out ] && echo back
exit 9
