/* SSE2, SSE4.2 and AVX2 by intrinsics. */
#include <immintrin.h>
#include "guests/benchbt/bench.h"

#define COUNT 8192
static float x[COUNT] __attribute__((aligned(64))), y[COUNT] __attribute__((aligned(64)));
static uint8_t bytes[COUNT] __attribute__((aligned(64)));

static void prepare(void)
{
    for (unsigned i = 0; i < COUNT; i++) {
        x[i] = (float)(i % 97) / 8;
        y[i] = (float)(i % 31) - 15;
        bytes[i] = (uint8_t)(i * 37 + (i >> 5));
    }
}

static uint64_t sse2(unsigned n)
{
    __m128 sum = _mm_setzero_ps();

    prepare(); /* y changes below */
    for (unsigned r = 0; r < n; r++) {
        __m128 a = _mm_set1_ps((float)(r % 8) / 16);

        for (unsigned i = 0; i < COUNT; i += 4) {
            __m128 v = _mm_add_ps(_mm_mul_ps(a, _mm_load_ps(x + i)), _mm_load_ps(y + i));

            v = _mm_min_ps(v, _mm_set1_ps(100));
            _mm_store_ps(y + i, v);
            sum = _mm_add_ps(sum, v);
        }
    }
    return hash_bytes(hash_bytes(HASH_START, &sum, sizeof(sum)), y, 4096);
}

__attribute__((target("sse4.2"))) static uint64_t sse42(unsigned n)
{
    const __m128i order = _mm_setr_epi8(3, 1, 0, 2, 7, 5, 4, 6, 11, 9, 8, 10, 15, 13, 12, 14);
    uint64_t crc = 1;

    for (unsigned r = 0; r < n; r++) {
        __m128i sum = _mm_setzero_si128();

        for (unsigned i = 0; i < COUNT; i += 16) {
            __m128i v = _mm_shuffle_epi8(_mm_load_si128((const __m128i *)(bytes + i)), order);

            sum = _mm_add_epi64(sum, _mm_sad_epu8(v, _mm_set1_epi8((char)r)));
            crc = _mm_crc32_u64(crc, (uint64_t)_mm_extract_epi64(v, 1));
        }
        crc ^= (uint64_t)_mm_extract_epi64(sum, 0);
    }
    return crc;
}

__attribute__((target("avx2"))) static uint64_t avx2(unsigned n)
{
    const __m256i step = _mm256_set1_epi32(0x01000193);
    __m256i h = _mm256_set1_epi32((int)0x811c9dc5);
    __m256 sum = _mm256_setzero_ps();

    for (unsigned r = 0; r < n; r++)
        for (unsigned i = 0; i < COUNT; i += 32) {
            __m256i v = _mm256_load_si256((const __m256i *)(bytes + i));

            h = _mm256_mullo_epi32(_mm256_xor_si256(h, v), step);
            h = _mm256_permutevar8x32_epi32(h, _mm256_srli_epi32(v, 29));
            sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_load_ps(x + i), _mm256_set1_ps(0.25f)));
        }
    return hash_bytes(hash_bytes(HASH_START, &h, sizeof(h)), &sum, sizeof(sum));
}

const struct kernel vector_kernels[] = {
    {"sse2", sse2, NULL, 5000, 0},
    {"sse4.2", sse42, prepare, 12000, NEEDS_SSE42},
    {"avx2", avx2, prepare, 5000, NEEDS_AVX2},
    {0},
};
