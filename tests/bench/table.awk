# table.awk FILE: rows "PLACE NAME CHECKSUM NS…", several lines a row allowed: their times are pooled.
# "boot PLACE MEDIAN MIN MAX" lines give boot times. Prints times, ratios, geomeans, the bars.
function sort(a, n,    i, j, v) {
    for (i = 2; i <= n; i++) {
        v = a[i]
        for (j = i - 1; j && a[j] > v; j--)
            a[j + 1] = a[j]
        a[j + 1] = v
    }
}
function median_of(place, name,    a, n, i) {
    n = split(times[place, name], a, " ")
    for (i = 1; i <= n; i++)
        a[i] += 0
    sort(a, n)
    lo[place, name] = a[1]
    hi[place, name] = a[n]
    med[place, name] = n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
}
function cell(place, name) {
    if (!((place, name) in med))
        return sprintf("%26s", "-")
    return sprintf("%9.2f (%.2f-%.2f)", med[place, name] / 1e6, lo[place, name] / 1e6, hi[place, name] / 1e6)
}
function ratio(a, b, name) { # of medians, and of minima; empty when one is not there
    if (!((a, name) in med) || !((b, name) in med))
        return ""
    low = lo[a, name] / lo[b, name]
    return med[a, name] / med[b, name]
}
function show(r) {
    return r == "" ? sprintf("%15s", "-") : sprintf("%7.2f /%6.2f", r, low)
}
function add(key, r) {
    if (r == "")
        return
    logs[key] += log(r)
    logs_low[key] += log(low)
    count[key]++
    if (!(key in worst) || r > worst[key]) {
        worst[key] = r
        worst_name[key] = name
    }
    if (!(key in least) || r < least[key]) {
        least[key] = r
        least_name[key] = name
    }
    if (!(key in worst_low) || low > worst_low[key])
        worst_low[key] = low
    if (!(key in least_low) || low < least_low[key])
        least_low[key] = low
}
function geo(key) {
    return count[key] ? exp(logs[key] / count[key]) : ""
}
function geo_low(key) {
    return exp(logs_low[key] / count[key])
}
function verdict(v, limit, upper) {
    return (upper ? v <= limit : v >= limit) ? "met" : "not met"
}
function bar(text, v, v_low, limit, aim, upper) {
    if (v == "") {
        printf "  %-58s %8s\n", text, "-"
        return
    }
    printf "  %-58s %8.2f %8.2f   %s %-5s %-8s (by minima: %s)%s\n", text, v, v_low, upper ? "<=" : ">=", limit,
        verdict(v, limit, upper), verdict(v_low, limit, upper), aim == "" ? "" : "; aim " aim
}
$1 == "boot" {
    boot[$2] = $3
    boot_low[$2] = $4
    boot_high[$2] = $5
    next
}
{
    if (!(($1, $2) in times))
        if (!($2 in seen)) {
            order[++rows] = $2
            seen[$2]
        }
    if ($1 == "unikernel")
        user[$2]
    for (i = 4; i <= NF; i++)
        times[$1, $2] = times[$1, $2] " " $i
}
END {
    split("native unikernel mayfly tcg", place, " ")
    for (key in times) {
        split(key, part, SUBSEP)
        median_of(part[1], part[2])
    }
    print "times in ms, median (min-max):"
    printf "  %-15s %26s %26s %26s %26s\n", "", "native", "unikernel, bt", "Debian, bt", "Debian, TCG"
    for (r = 1; r <= rows; r++) {
        name = order[r]
        printf "  %-15s", name
        for (p = 1; p <= 4; p++)
            printf " %26s", cell(place[p], name)
        print ""
    }
    print "ratios, of medians / of minima:"
    printf "  %-15s %15s %15s %15s %15s\n", "", "uni/native", "bt/native", "TCG/native", "TCG/bt"
    for (r = 1; r <= rows; r++) {
        name = order[r]
        printf "  %-15s", name
        v = ratio("unikernel", "native", name)
        printf " %15s", show(v)
        add("uni", v)
        v = ratio("mayfly", "native", name)
        printf " %15s", show(v)
        add(name in user ? "bt" : "bt os", v)
        v = ratio("tcg", "native", name)
        printf " %15s", show(v)
        add(name in user ? "tcg" : "tcg os", v)
        v = ratio("tcg", "mayfly", name)
        printf " %15s\n", show(v)
        add("faster", v)
        faster[name] = v
        faster_low[name] = v == "" ? "" : low
        slower += v != "" && v < 1
    }
    if (count["bt os"])
        printf "  OS rows and programs, geomean against native: bt %.2f%s\n", geo("bt os"),
            count["tcg os"] ? sprintf(", TCG %.2f", geo("tcg os")) : ""
    if (count["tcg"])
        printf "  user kernels, geomean against native: TCG %.2f\n", geo("tcg")
    printf "bars: %-54s %8s %8s\n", "", "medians", "minima"
    bar("unikernel / native, geomean of " count["uni"] " kernels", geo("uni"), geo_low("uni"), 1.2, 1.12, 1)
    bar("unikernel / native, worst: " worst_name["uni"], worst["uni"], worst_low["uni"], 2, "", 1)
    if (count["bt"])
        bar("Debian bt / native, geomean of " count["bt"] " kernels", geo("bt"), geo_low("bt"), 2, 1.6, 1)
    if (count["faster"]) {
        bar("TCG / bt, geomean of all " count["faster"] " rows", geo("faster"), geo_low("faster"), 3, "", 0)
        bar("TCG / bt, least: " least_name["faster"], least["faster"], least_low["faster"], 1, "", 0)
        split("fork-exec-wait syscall page-fault pipe-ping-pong", four, " ")
        for (i = 1; i <= 4; i++)
            bar("TCG / bt, " four[i], faster[four[i]], faster_low[four[i]], 2, "", 0)
    }
    if (boot["mayfly"] && boot["tcg"]) {
        printf "  Debian to /init: bt %.0f ms (%.0f-%.0f), TCG %.0f ms (%.0f-%.0f)\n", boot["mayfly"] / 1e3,
            boot_low["mayfly"] / 1e3, boot_high["mayfly"] / 1e3, boot["tcg"] / 1e3, boot_low["tcg"] / 1e3,
            boot_high["tcg"] / 1e3
        bar("Debian to /init: bt / TCG", boot["mayfly"] / boot["tcg"], boot_low["mayfly"] / boot_low["tcg"], 0.4, 0.25, 1)
    }
}
