/* Random bytes: ChaCha20 (RFC 8439 2.3) keyed by the boot seed; each request's first block becomes
 * the next key, so what was given out cannot be computed from what is kept. */
#include "guests/runtime/runtime.h"

static uint32_t rotate(uint32_t v, int n)
{
    return v << n | v >> (32 - n);
}

static void quarter(uint32_t *s, int a, int b, int c, int d)
{
    s[a] += s[b];
    s[d] = rotate(s[d] ^ s[a], 16);
    s[c] += s[d];
    s[b] = rotate(s[b] ^ s[c], 12);
    s[a] += s[b];
    s[d] = rotate(s[d] ^ s[a], 8);
    s[c] += s[d];
    s[b] = rotate(s[b] ^ s[c], 7);
}

static void chacha_block(const uint32_t key[8], uint32_t counter, uint32_t out[16])
{
    uint32_t in[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};

    for (int i = 0; i < 8; i++)
        in[4 + i] = key[i];
    in[12] = counter;
    for (int i = 0; i < 16; i++)
        out[i] = in[i];
    for (int round = 0; round < 10; round++) {
        quarter(out, 0, 4, 8, 12);
        quarter(out, 1, 5, 9, 13);
        quarter(out, 2, 6, 10, 14);
        quarter(out, 3, 7, 11, 15);
        quarter(out, 0, 5, 10, 15);
        quarter(out, 1, 6, 11, 12);
        quarter(out, 2, 7, 8, 13);
        quarter(out, 3, 4, 9, 14);
    }
    for (int i = 0; i < 16; i++)
        out[i] += in[i];
}

void random_bytes(void *buf, size_t len)
{
    uint8_t *seed = boot.seed, *out = buf;
    uint32_t key[8], words[16], n = 1;

    copy(key, seed, sizeof(key));
    chacha_block(key, 0, words);
    copy(seed, words, sizeof(key));
    while (len) {
        size_t part = len < sizeof(words) ? len : sizeof(words);

        chacha_block(key, n++, words);
        copy(out, words, part);
        out += part;
        len -= part;
    }
}
