# compare.awk FILE: rows "PLACE NAME CHECKSUM …" of several places. Says where a checksum differs from
# the native one and which rows a place lacks; status 1 then. A row that needs CPU features may be
# missing where a virtual CPU does not have them; a unikernel has no operating system's rows.
{
    if (($1, $2) in sum && sum[$1, $2] != $3)
        bad = bad "differs: " $2 " in " $1 ": " sum[$1, $2] ", then " $3 "\n"
    sum[$1, $2] = $3
    places[$1]
    names[$2]
    if ($1 == "unikernel")
        alone[$2]
}
END {
    for (n in names)
        for (p in places) {
            if (!(("native", n) in sum)) {
                bad = bad "missing: " n " natively\n"
                break
            }
            if ((p, n) in sum) {
                if (sum[p, n] != sum["native", n])
                    bad = bad "differs: " n " in " p ": " sum[p, n] ", native " sum["native", n] "\n"
                same++
            } else if (n ~ /^(avx2|sse4.2)$/)
                notes = notes "note: " p " lacks " n "\n"
            else if (p != "unikernel" || n in alone)
                bad = bad "missing: " n " in " p "\n"
        }
    printf "%s%s", notes, bad
    if (!same || !("native" in places))
        print "nothing to compare"
    exit bad != "" || !same
}
