/* --net's argument: tap=NAME or user[,hostfwd=…]…[,restrict], either with [,mac=…] and, for a
 * program's network, [,ip=…[,gw=…][,dns=…]] */
#include "virtio/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORWARD_FORM "tcp:HOST:PORT-:PORT"

static bool parse_mac(const char *s, uint8_t mac[6])
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";

    if (strlen(s) != 17)
        return false;
    for (unsigned i = 0; i < 6; i++, s += 3) {
        const char *hi = strchr(digits, s[0]), *lo = strchr(digits, s[1]);

        if (!hi || !lo || (i < 5 && s[2] != ':'))
            return false;
        mac[i] = (uint8_t)((hi - digits) % 16 << 4 | (lo - digits) % 16);
    }
    return true;
}

/* A port number at *s, which moves past it; 0: none. */
static unsigned take_port(const char **s)
{
    unsigned v = 0;

    if (**s == '0')
        return 0;
    for (; **s >= '0' && **s <= '9'; ++*s) {
        v = v * 10 + (unsigned)(**s - '0');
        if (v > 65535)
            return 0;
    }
    return v;
}

/* "tcp:127.0.0.1:8080-:80", "udp::5353-:53", "tcp:[::1]:8080-:80" */
static bool parse_forward(const char *s, struct net_forward *f)
{
    char host[48] = "";
    size_t n;

    if (!strncmp(s, "tcp:", 4))
        f->udp = false;
    else if (!strncmp(s, "udp:", 4))
        f->udp = true;
    else
        return false;
    s += 4;
    bool six = *s == '[';

    s += six;
    n = six ? strcspn(s, "]") : strcspn(s, ":");
    /* What an address is made of, and nothing that means more to passt. */
    if (n >= sizeof host || strspn(s, six ? "0123456789abcdefABCDEF:." : "0123456789.") < n)
        return false;
    memcpy(host, s, n);
    host[n] = 0;
    s += n;
    if (six && (!n || *s++ != ']'))
        return false;
    if (*s++ != ':')
        return false;
    unsigned from = take_port(&s), to;

    if (!from || *s++ != '-' || *s++ != ':')
        return false;
    to = take_port(&s);
    if (!to || *s)
        return false;
    snprintf(f->spec, sizeof f->spec, "%s%s%u:%u", host, *host ? "/" : "", from, to);
    return true;
}

/* "10.0.0.2" */
static bool parse_address(const char *s, uint32_t *address)
{
    struct in_addr a;

    if (inet_pton(AF_INET, s, &a) != 1 || !a.s_addr)
        return false;
    *address = a.s_addr;
    return true;
}

/* "10.0.0.2/24" */
static bool parse_network(const char *s, struct net_address *n)
{
    char host[16];
    size_t at = strcspn(s, "/"), digits;
    unsigned bits;

    if (at >= sizeof host || !s[at])
        return false;
    memcpy(host, s, at);
    host[at] = 0;
    s += at + 1;
    digits = strspn(s, "0123456789");
    if (!digits || digits > 2 || s[digits])
        return false;
    bits = (unsigned)atoi(s);
    if (!bits || bits > 32)
        return false;
    n->mask = htonl(0xffffffffu << (32 - bits));
    return parse_address(host, &n->address);
}

static int fail(char *err, size_t len, const char *fmt, const char *what)
{
    snprintf(err, len, fmt, what);
    return -EINVAL;
}

/* One of the words between commas. */
static int take_word(struct net_options *o, const char *w, bool first, char *err, size_t len)
{
    if (first && !strcmp(w, "user")) {
        o->user = true;
    } else if (first && !strncmp(w, "tap=", 4)) {
        size_t n = strlen(w + 4);

        if (!n || n >= sizeof o->tap || strchr(w, '/') || strchr(w, '%'))
            return fail(err, len, "'%s' is no interface name; 1 to 15 characters", w + 4);
        memcpy(o->tap, w + 4, n + 1);
    } else if (first) {
        return fail(err, len, "'%s' is no kind of network; tap=NAME or user, or lo alone", w);
    } else if (!strncmp(w, "mac=", 4)) {
        if (!parse_mac(w + 4, o->mac))
            return fail(err, len,
                        "mac '%s' is not six pairs of hex digits; as in mac=02:00:00:00:00:01",
                        w + 4);
        if (o->mac[0] & 1 || !memcmp(o->mac, "\0\0\0\0\0\0", 6))
            return fail(err, len, "mac '%s' is no station's address; as in mac=02:00:00:00:00:01",
                        w + 4);
        o->has_mac = true;
    } else if (!strncmp(w, "ip=", 3)) {
        if (!parse_network(w + 3, &o->address))
            return fail(err, len, "ip '%s' is not ADDRESS/BITS; as in ip=10.0.0.2/24", w + 3);
    } else if (!strncmp(w, "gw=", 3)) {
        if (!parse_address(w + 3, &o->address.gateway))
            return fail(err, len, "gw '%s' is no address; as in gw=10.0.0.1", w + 3);
    } else if (!strncmp(w, "dns=", 4)) {
        if (!parse_address(w + 4, &o->address.dns))
            return fail(err, len, "dns '%s' is no address; as in dns=10.0.0.1", w + 4);
    } else if (!o->user) {
        return fail(err, len, "tap knows no '%s'; tap=NAME[,mac=MAC][,ip=ADDRESS/BITS]", w);
    } else if (!strcmp(w, "restrict")) {
        o->restricted = true;
    } else if (!strncmp(w, "hostfwd=", 8)) {
        if (o->nforward == NET_FORWARDS)
            return fail(err, len, "too many hostfwd; at most %s", "16");
        if (!parse_forward(w + 8, &o->forward[o->nforward]))
            return fail(err, len,
                        "hostfwd '%s' is not " FORWARD_FORM
                        " or udp:…; HOST is an address, or empty for all",
                        w + 8);
        o->nforward++;
    } else {
        return fail(err, len,
                    "user knows no '%s'; user[,hostfwd=" FORWARD_FORM "][,restrict][,mac=MAC]", w);
    }
    return 0;
}

int net_options_parse(const char *arg, struct net_options *o, char *err, size_t len)
{
    char *copy = strdup(arg ? arg : ""), *at = copy, *w;
    bool first = true;
    int e = 0;

    memset(o, 0, sizeof *o);
    if (!copy)
        return fail(err, len, "%s", "out of memory");
    while (!e && (w = strsep(&at, ","))) {
        e = take_word(o, w, first, err, len);
        first = false;
    }
    free(copy);
    if (!e && !o->address.address && (o->address.gateway || o->address.dns))
        e = fail(err, len, "%s", "gw and dns go with an address; as in ip=10.0.0.2/24");
    for (unsigned i = 0; i < o->nforward && !e; i++)
        if (o->restricted && o->forward[i].udp)
            e = fail(err, len, "%s", "restrict lets no UDP through; forward tcp only");
    return e;
}
