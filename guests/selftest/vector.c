/* x87, MMX, SSE to 4.2, AVX, AVX2, FMA, AES: values whose results are exact by specification. */
#include "guests/selftest/compute.h"

static uint64_t data[64] __attribute__((aligned(64)));

static void fill(uint64_t seed)
{
    for (unsigned i = 0; i < 64; i++)
        data[i] = mix(seed, i);
}

static uint64_t fold(uint64_t h)
{
    for (unsigned i = 0; i < 64; i++)
        h = mix(h, data[i]);
    return h;
}

#define RUN(text) __asm__ volatile(text : : "r"(data) : "memory", "cc", "rax", "rdx", "rcx")

uint64_t sum_x87(void)
{
    fill(1);
    data[0] = 0x41490fdb;         /* a float in its low half */
    data[1] = 0x400921fb54442d18; /* pi as a double */
    RUN("fninit\n\t"
        "flds (%0)\n\tfldl 8(%0)\n\tfadd %%st(1), %%st\n\tfstl 16(%0)\n\t"
        "fmulp\n\tfld1\n\tfdivp\n\tfstl 24(%0)\n\tfsqrt\n\tfstpl 32(%0)\n\t"
        "fldpi\n\tfldz\n\tfcomip %%st(1), %%st\n\tfstpt 48(%0)\n\t"
        "fildll 64(%0)\n\tfistpll 72(%0)\n\tfldpi\n\tfchs\n\tfabs\n\tfrndint\n\tfistpl 80(%0)\n\t"
        "fnstcw 84(%0)\n\tfldl 8(%0)\n\tfldl 8(%0)\n\tfucompp\n\tfnstsw %%ax\n\tmovw %%ax, "
        "86(%0)\n\t"
        "movl $0xf7f, 88(%0)\n\tfldcw 88(%0)\n\tfldl 8(%0)\n\tfistpl 92(%0)\n\tfninit");
    return fold(30);
}

uint64_t sum_mmx(void)
{
    fill(2);
    RUN("movq (%0), %%mm0\n\tmovq 8(%0), %%mm1\n\tpaddb %%mm1, %%mm0\n\tmovq %%mm0, 16(%0)\n\t"
        "pmaddwd 24(%0), %%mm1\n\tmovq %%mm1, 32(%0)\n\tpunpcklbw %%mm0, %%mm1\n\t"
        "psllw $3, %%mm1\n\tmovq %%mm1, 40(%0)\n\tpackuswb %%mm0, %%mm1\n\tmovq %%mm1, 48(%0)\n\t"
        "emms");
    return fold(31);
}

uint64_t sum_sse(void)
{
    fill(3);
    RUN("movdqa (%0), %%xmm0\n\tmovdqu 24(%0), %%xmm9\n\tpaddq %%xmm9, %%xmm0\n\t"
        "movdqa %%xmm0, 48(%0)\n\tpsubusb 16(%0), %%xmm0\n\tpmuludq %%xmm9, %%xmm0\n\t"
        "movdqa %%xmm0, 64(%0)\n\tpshufd $0x1b, %%xmm0, %%xmm5\n\tpshuflw $0x39, %%xmm5, %%xmm6\n\t"
        "movdqa %%xmm6, 80(%0)\n\tpsrldq $5, %%xmm6\n\tpcmpgtb %%xmm5, %%xmm6\n\t"
        "pmovmskb %%xmm6, %%eax\n\tmovl %%eax, 96(%0)\n\tpunpckhqdq %%xmm5, %%xmm9\n\t"
        "movdqa %%xmm9, 112(%0)\n\tpsadbw %%xmm5, %%xmm9\n\tmovntdq %%xmm9, 128(%0)\n\t"
        "movq %%xmm5, %%rax\n\tmovq %%rax, 144(%0)\n\tmovd %%eax, %%xmm12\n\t"
        "movdqa %%xmm12, 160(%0)\n\tpextrw $3, %%xmm5, %%edx\n\tmovl %%edx, 176(%0)\n\t"
        "pxor %%xmm15, %%xmm15\n\tpackssdw %%xmm5, %%xmm15\n\tmovups %%xmm15, 184(%0)\n\tsfence");
    return fold(32);
}

uint64_t sum_sse_float(void)
{
    uint32_t csr;

    fill(4);
    data[0] = 0x4008000000000000; /* 3.0 */
    data[1] = 0x3ff8000000000000; /* 1.5 */
    data[2] = 0xc01c000000000000; /* -7.0 */
    data[3] = 0x0010000000000000; /* smallest normal */
    data[4] = 0x40490fdb3f800000; /* floats 1.0, pi */
    data[5] = 0x7f80000000000001; /* float denormal, infinity */
    RUN("movl $0x1f80, 504(%0)\n\tldmxcsr 504(%0)\n\t"
        "movapd (%0), %%xmm0\n\taddpd 16(%0), %%xmm0\n\tmovapd %%xmm0, 64(%0)\n\t"
        "movsd (%0), %%xmm1\n\tdivsd 8(%0), %%xmm1\n\tsqrtsd %%xmm1, %%xmm1\n\tmovsd %%xmm1, "
        "80(%0)\n\t"
        "movsd 24(%0), %%xmm2\n\tmulsd 24(%0), %%xmm2\n\tmovsd %%xmm2, 88(%0)\n\t"
        "movaps 32(%0), %%xmm3\n\tmulps %%xmm3, %%xmm3\n\tmovaps %%xmm3, 96(%0)\n\t"
        "cvtsd2si 16(%0), %%rax\n\tmovq %%rax, 112(%0)\n\tcvttsd2si 80(%0), %%eax\n\t"
        "movl %%eax, 120(%0)\n\tcvtsi2sdq 112(%0), %%xmm4\n\tmovsd %%xmm4, 128(%0)\n\t"
        "cvtpd2ps (%0), %%xmm5\n\tmovaps %%xmm5, 144(%0)\n\tcmpltpd 16(%0), %%xmm0\n\t"
        "movapd %%xmm0, 160(%0)\n\tucomisd (%0), %%xmm1\n\tlahf\n\tmovb %%ah, 176(%0)\n\t"
        "maxpd 16(%0), %%xmm1\n\tmovapd %%xmm1, 192(%0)\n\tshufps $0x4e, %%xmm3, %%xmm5\n\t"
        "movaps %%xmm5, 208(%0)\n\tstmxcsr 224(%0)\n\t"
        "movl $0x7f80, 504(%0)\n\tldmxcsr 504(%0)\n\t" /* towards zero */
        "movsd (%0), %%xmm1\n\tdivsd 16(%0), %%xmm1\n\tmovsd %%xmm1, 232(%0)\n\t"
        "movl $0x1f80, 504(%0)\n\tldmxcsr 504(%0)");
    __asm__ volatile("stmxcsr %0" : "=m"(csr));
    return mix(fold(33), csr);
}

uint64_t sum_ssse3(void)
{
    fill(5);
    RUN("movdqa (%0), %%xmm0\n\tmovdqa 16(%0), %%xmm1\n\tpshufb %%xmm1, %%xmm0\n\t"
        "movdqa %%xmm0, 32(%0)\n\tpalignr $7, %%xmm1, %%xmm0\n\tmovdqa %%xmm0, 48(%0)\n\t"
        "phaddd %%xmm1, %%xmm0\n\tpmaddubsw 64(%0), %%xmm0\n\tpabsb %%xmm0, %%xmm2\n\t"
        "psignw %%xmm1, %%xmm2\n\tmovdqa %%xmm2, 80(%0)");
    return fold(34);
}

uint64_t sum_sse4(void)
{
    fill(6);
    RUN("movdqa (%0), %%xmm1\n\tmovdqa 16(%0), %%xmm0\n\tmovdqa 32(%0), %%xmm2\n\t"
        "pblendvb %%xmm0, %%xmm2, %%xmm1\n\tmovdqa %%xmm1, 48(%0)\n\tpmulld 64(%0), %%xmm1\n\t"
        "pminsb %%xmm2, %%xmm1\n\tmovdqa %%xmm1, 80(%0)\n\tpmovzxbw %%xmm1, %%xmm3\n\t"
        "movdqa %%xmm3, 96(%0)\n\tpextrq $1, %%xmm3, %%rax\n\tmovq %%rax, 112(%0)\n\t"
        "pinsrb $5, %%edx, %%xmm4\n\tptest %%xmm1, %%xmm2\n\tsetc 120(%0)\n\tsetz 121(%0)\n\t"
        "pcmpgtq %%xmm2, %%xmm1\n\tmovdqa %%xmm1, 128(%0)\n\t"
        "movl $7, %%eax\n\tmovl $9, %%edx\n\tpcmpestri $0x0c, 144(%0), %%xmm2\n\t"
        "movl %%ecx, 160(%0)\n\tpcmpistrm $0x4a, 144(%0), %%xmm2\n\tmovdqa %%xmm0, 176(%0)\n\t"
        "movdqa (%0), %%xmm5\n\tpandn %%xmm5, %%xmm5\n\troundsd $1, %%xmm5, %%xmm5\n\t"
        "movdqa %%xmm5, 192(%0)");
    return fold(35);
}

uint64_t sum_avx(void)
{
    fill(7);
    for (unsigned i = 0; i < 8; i++)
        data[i] = 0x3ff0000000000000 + (mix(3, i) >> 12); /* doubles in [1, 2) */
    RUN("vmovupd (%0), %%ymm0\n\tvmovapd 32(%0), %%ymm9\n\tvaddpd %%ymm0, %%ymm9, %%ymm1\n\t"
        "vmovupd %%ymm1, 64(%0)\n\tvmulpd 32(%0), %%ymm1, %%ymm2\n\tvdivpd %%ymm0, %%ymm2, "
        "%%ymm2\n\t"
        "vmovupd %%ymm2, 96(%0)\n\tvperm2f128 $0x21, %%ymm1, %%ymm2, %%ymm3\n\t"
        "vmovupd %%ymm3, 128(%0)\n\tvbroadcastsd 8(%0), %%ymm4\n\tvmovupd %%ymm4, 160(%0)\n\t"
        "vpaddd %%xmm1, %%xmm2, %%xmm4\n\tvmovdqu %%ymm4, 192(%0)\n\t" /* clears 255:128 */
        "vextractf128 $1, %%ymm3, 224(%0)\n\tvtestpd %%ymm1, %%ymm2\n\tsetz 240(%0)\n\t"
        "vblendvpd %%ymm1, %%ymm2, %%ymm3, %%ymm5\n\tvmovupd %%ymm5, 256(%0)\n\t"
        "vzeroupper\n\tvmovdqu %%ymm5, 288(%0)\n\tvzeroall\n\tvmovdqu %%ymm1, 320(%0)");
    return fold(36);
}

uint64_t sum_avx2(void)
{
    fill(8);
    for (unsigned i = 0; i < 4; i++)
        data[40 + i] = (uint64_t)i * 3; /* gather indices */
    RUN("vmovdqu (%0), %%ymm0\n\tvmovdqu 32(%0), %%ymm1\n\tvpaddb %%ymm0, %%ymm1, %%ymm2\n\t"
        "vmovdqu %%ymm2, 64(%0)\n\tvpermq $0x93, %%ymm2, %%ymm3\n\tvmovdqu %%ymm3, 96(%0)\n\t"
        "vpshufb %%ymm0, %%ymm3, %%ymm4\n\tvpmaddwd %%ymm4, %%ymm1, %%ymm4\n\tvmovdqu %%ymm4, "
        "128(%0)\n\t"
        "vpsllvq %%ymm1, %%ymm0, %%ymm5\n\tvpsrlvd %%ymm2, %%ymm5, %%ymm5\n\tvmovdqu %%ymm5, "
        "160(%0)\n\t"
        "vpmovmskb %%ymm5, %%eax\n\tmovl %%eax, 192(%0)\n\tvpbroadcastw (%0), %%ymm6\n\t"
        "vmovdqu %%ymm6, 200(%0)\n\tvmovdqu 320(%0), %%ymm7\n\tvpcmpeqd %%ymm8, %%ymm8, %%ymm8\n\t"
        "vpgatherqq %%ymm8, (%0, %%ymm7, 8), %%ymm9\n\tvmovdqu %%ymm9, 240(%0)\n\t"
        "vpcmpeqd %%ymm8, %%ymm8, %%ymm8\n\tvpsrlq $33, %%ymm8, %%ymm8\n\t"
        "vpmaskmovd %%ymm1, %%ymm8, 272(%0)\n\tvzeroupper");
    return fold(37);
}

uint64_t sum_fma(void)
{
    fill(9);
    for (unsigned i = 0; i < 8; i++)
        data[i] = 0x3ff0000000000000 + (mix(5, i) >> 12);
    RUN("vmovupd (%0), %%ymm0\n\tvmovupd 32(%0), %%ymm1\n\tvfmadd213pd 8(%0), %%ymm1, %%ymm0\n\t"
        "vmovupd %%ymm0, 64(%0)\n\tvfnmsub231sd 16(%0), %%xmm1, %%xmm0\n\tvmovupd %%ymm0, "
        "96(%0)\n\t"
        "vzeroupper");
    return fold(38);
}

uint64_t sum_aes(void)
{
    fill(10);
    RUN("movdqa (%0), %%xmm0\n\tmovdqa 16(%0), %%xmm1\n\taesenc %%xmm1, %%xmm0\n\t"
        "movdqa %%xmm0, 32(%0)\n\taesdeclast %%xmm1, %%xmm0\n\tmovdqa %%xmm0, 48(%0)\n\t"
        "aeskeygenassist $0x1b, %%xmm0, %%xmm2\n\tmovdqa %%xmm2, 64(%0)\n\t"
        "pclmulqdq $0x11, %%xmm1, %%xmm0\n\tmovdqa %%xmm0, 80(%0)");
    return fold(39);
}

/* FXSAVE and FXRSTOR: the registers come back, and the image holds them where it must. */
uint64_t sum_fxsave(void)
{
    static uint8_t area[512] __attribute__((aligned(16)));
    uint64_t h = 40;

    fill(11);
    __asm__ volatile("fninit\n\tfld1\n\tmovdqa (%0), %%xmm7\n\tmovdqa 16(%0), %%xmm14\n\t"
                     "fxsave64 (%1)\n\tpxor %%xmm7, %%xmm7\n\tpxor %%xmm14, %%xmm14\n\tfninit\n\t"
                     "fxrstor64 (%1)\n\tmovdqa %%xmm7, 32(%0)\n\tmovdqa %%xmm14, 48(%0)\n\t"
                     "fstpl 64(%0)\n\tfninit"
                     :
                     : "r"(data), "r"(area)
                     : "memory");
    for (unsigned i = 160 + 7 * 16; i < 160 + 8 * 16; i++)
        h = mix(h, area[i]);
    for (unsigned i = 32; i < 48; i++) /* ST0 */
        h = mix(h, i < 42 ? area[i] : 0);
    return mix(fold(h), area[4]); /* abridged tag word */
}
