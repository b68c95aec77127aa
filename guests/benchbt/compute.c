/* Integer and floating-point work: sorting, a mix in the manner of embedded suites (matrices, CRC,
 * lists, a state machine), division, doubles, x87. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "guests/benchbt/bench.h"

#define SORT 8000
static int32_t numbers[SORT];

static int ascending(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    return (x > y) - (x < y);
}
static uint64_t sort(unsigned n)
{
    uint64_t h = HASH_START;

    for (unsigned r = 0; r < n; r++) {
        uint32_t s = r + 1;

        for (unsigned i = 0; i < SORT; i++)
            numbers[i] = (int32_t)(s = s * 1103515245 + 12345);
        qsort(numbers, SORT, sizeof(*numbers), ascending);
        h = hash_bytes(h, numbers, 4000);
    }
    return h;
}

/* --- the mix --- */
#define DIM   24
#define NODES 256
struct node {
    struct node *next;
    int16_t key, value;
};
static int16_t ma[DIM][DIM], mb[DIM][DIM];
static int32_t mc[DIM][DIM];
static struct node nodes[NODES];

static uint16_t crc16(uint16_t crc, uint32_t v)
{
    for (unsigned i = 0; i < 32; i++, v >>= 1)
        crc = (uint16_t)((crc ^ v) & 1 ? crc >> 1 ^ 0xa001 : crc >> 1);
    return crc;
}

static uint16_t mix_matrix(uint16_t crc, int16_t by)
{
    for (unsigned i = 0; i < DIM; i++)
        for (unsigned j = 0; j < DIM; j++) {
            int32_t sum = 0;

            for (unsigned k = 0; k < DIM; k++)
                sum += ma[i][k] * mb[k][j];
            mc[i][j] = sum;
        }
    for (unsigned i = 0; i < DIM; i++) {
        crc = crc16(crc, (uint32_t)mc[i][i]);
        for (unsigned j = 0; j < DIM; j++)
            ma[i][j] = (int16_t)((ma[i][j] + by) & 0xff);
    }
    return crc;
}

static struct node *merge(struct node *a, struct node *b)
{
    struct node head, *tail = &head;

    while (a && b) {
        struct node **from = a->key <= b->key ? &a : &b;

        tail->next = *from;
        tail = *from;
        *from = tail->next;
    }
    tail->next = a ? a : b;
    return head.next;
}
static struct node *sort_list(struct node *list, unsigned count)
{
    struct node *second = list;

    if (count < 2)
        return list;
    for (unsigned i = 1; i < count / 2; i++)
        second = second->next;
    struct node *rest = second->next;

    second->next = NULL;
    return merge(sort_list(list, count / 2), sort_list(rest, count - count / 2));
}
static uint16_t mix_list(uint16_t crc, unsigned round)
{
    struct node *list, *reversed = NULL;
    unsigned found = 0;

    for (unsigned i = 0; i < NODES; i++)
        nodes[i] = (struct node){i + 1 < NODES ? &nodes[i + 1] : NULL,
                                 (int16_t)((i * 40503u + round * 977u) >> 3 & 0x7fff), (int16_t)i};
    list = sort_list(nodes, NODES);
    while (list) {
        struct node *next = list->next;

        list->next = reversed;
        reversed = list;
        list = next;
    }
    for (int16_t want = 0; want < 32; want++)
        for (struct node *p = reversed; p; p = p->next)
            if (p->value == want * 7) {
                found += (unsigned)p->key;
                break;
            }
    return crc16(crc, found);
}

/* Which words are integers, reals, neither. */
static uint16_t mix_states(uint16_t crc, unsigned round)
{
    static const char text[] = "5012 +12.7e3 -77 x19 0.5 1e 42e-7 .3 9999 --1 +4. 8e+12 abc 7 ";
    enum { START, SIGN, INTEGER, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, POWER, BAD } s = START;
    unsigned counts[9] = {0};

    for (unsigned r = 0; r < 4; r++)
        for (const char *p = text + (round + r) % 5; *p; p++) {
            int digit = *p >= '0' && *p <= '9', sign = *p == '+' || *p == '-';

            if (*p == ' ') {
                counts[s]++;
                s = START;
                continue;
            }
            switch (s) {
            case START:
                s = digit ? INTEGER : sign ? SIGN : *p == '.' ? POINT : BAD;
                break;
            case SIGN:
                s = digit ? INTEGER : *p == '.' ? POINT : BAD;
                break;
            case INTEGER:
                s = digit ? INTEGER : *p == '.' ? FRACTION : *p == 'e' ? EXPONENT : BAD;
                break;
            case POINT:
                s = digit ? FRACTION : BAD;
                break;
            case FRACTION:
                s = digit ? FRACTION : *p == 'e' ? EXPONENT : BAD;
                break;
            case EXPONENT:
                s = digit ? POWER : sign ? EXPONENT_SIGN : BAD;
                break;
            case EXPONENT_SIGN:
            case POWER:
                s = digit ? POWER : BAD;
                break;
            case BAD:
                break;
            }
        }
    for (unsigned i = 0; i < 9; i++)
        crc = crc16(crc, counts[i]);
    return crc;
}
static uint64_t mixed(unsigned n)
{
    uint16_t crc = 0xffff;

    for (unsigned i = 0; i < DIM; i++)
        for (unsigned j = 0; j < DIM; j++) {
            ma[i][j] = (int16_t)(i * 3 + j);
            mb[i][j] = (int16_t)(i - j * 5);
        }
    for (unsigned r = 0; r < n; r++) {
        crc = mix_matrix(crc, (int16_t)r);
        crc = mix_list(crc, r);
        crc = mix_states(crc, r);
    }
    return crc;
}

static uint64_t crc32_bits(unsigned n)
{
    uint32_t crc = ~0u;

    for (unsigned i = 0; i < n; i++) {
        crc ^= i & 255;
        for (unsigned k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
    }
    return crc;
}

static uint64_t divide(unsigned n)
{
    uint64_t sum = 0, x = 0xfedcba9876543210ull;

    for (uint64_t i = 1; i <= n; i++) {
        sum += x / (i * 0x100000001ull) + x % (i + 7);
        x += sum;
    }
    return sum;
}

/* --- doubles --- */
#define SIDE 96
static double fa[SIDE][SIDE], fb[SIDE][SIDE], fc[SIDE][SIDE];

static uint64_t doubles(unsigned n)
{
    uint64_t h = HASH_START;

    for (unsigned r = 0; r < n; r++) {
        for (unsigned i = 0; i < SIDE; i++)
            for (unsigned j = 0; j < SIDE; j++) {
                fa[i][j] = (double)(i + r) / (j + 1);
                fb[i][j] = sqrt((double)(i * j + 1));
            }
        for (unsigned i = 0; i < SIDE; i++)
            for (unsigned j = 0; j < SIDE; j++) {
                double s = 0;

                for (unsigned k = 0; k < SIDE; k++)
                    s += fa[i][k] * fb[k][j];
                fc[i][j] = s;
            }
        h = hash_bytes(h, fc[r % SIDE], sizeof(fc[0]));
    }
    return h;
}

static uint64_t bodies(unsigned n)
{
    double x[5][3], v[5][3] = {{0}};
    uint64_t h;

    for (unsigned i = 0; i < 5; i++)
        for (unsigned k = 0; k < 3; k++)
            x[i][k] = (double)((i + 1) * (k + 2)) + (double)(i * i) / 7;
    for (unsigned r = 0; r < n; r++) {
        for (unsigned i = 0; i < 5; i++)
            for (unsigned j = i + 1; j < 5; j++) {
                double d[3], square = 0.01, force;

                for (unsigned k = 0; k < 3; k++) {
                    d[k] = x[j][k] - x[i][k];
                    square += d[k] * d[k];
                }
                force = 0.001 / (square * sqrt(square));
                for (unsigned k = 0; k < 3; k++) {
                    v[i][k] += d[k] * force;
                    v[j][k] -= d[k] * force;
                }
            }
        for (unsigned i = 0; i < 5; i++)
            for (unsigned k = 0; k < 3; k++)
                x[i][k] += v[i][k] * 0.001;
    }
    h = hash_bytes(HASH_START, x, sizeof(x));
    return h;
}

static uint64_t x87(unsigned n)
{
    uint64_t inside = 0;

    for (unsigned p = 0; p < n; p++) {
        long double cr = (long double)(p % 61) / 20 - 2, ci = (long double)(p % 37) / 18 - 1;
        long double zr = 0, zi = 0;
        unsigned i = 0;

        for (; i < 60 && zr * zr + zi * zi < 4; i++) {
            long double t = zr * zr - zi * zi + cr;

            zi = 2 * zr * zi + ci;
            zr = t;
        }
        inside = mix(inside, i);
    }
    return inside;
}

const struct kernel compute_kernels[] = {
    {"qsort", sort, NULL, 1, 0},
    {"mix", mixed, NULL, 360, 0},
    {"crc32", crc32_bits, NULL, 600000, 0},
    {"div64", divide, NULL, 700000, 0},
    {"double-matrix", doubles, NULL, 20, 0},
    {"double-bodies", bodies, NULL, 120000, 0},
    {"x87", x87, NULL, 75000, 0},
    {0},
};
