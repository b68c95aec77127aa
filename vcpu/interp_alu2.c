/* IC_ALU of the 0F, 0F38 and 0F3A maps: bit operations, CMPXCHG, XADD, BMI and their like. */
#include "vcpu/interp_ops.h"

uint64_t alu_shift_double(bool left, uint64_t a, uint64_t b, unsigned count, unsigned size,
                          uint64_t *fl)
{
    unsigned bits = 8 * size, cf, of;
    uint64_t r;

    count &= size == 8 ? 63 : 31;
    if (!count)
        return a;
    /* 16-bit counts above 16 (undefined) go on through a second copy of the first operand, as Intel
     * does: a:b:a shifted as 48 bits. */
    if (count <= bits) {
        if (left) {
            cf = (unsigned)(a >> (bits - count)) & 1;
            r = count == bits ? b : (a << count) | (b >> (bits - count));
        } else {
            cf = (unsigned)(a >> (count - 1)) & 1;
            r = count == bits ? b : (a >> count) | (b << (bits - count));
        }
    } else {
        count -= bits;
        if (left) {
            cf = (unsigned)(b >> (bits - count)) & 1;
            r = (b << count) | (a >> (bits - count));
        } else {
            cf = (unsigned)(b >> (count - 1)) & 1;
            r = (b >> count) | (a << (bits - count));
        }
    }
    r &= alu_mask(size);
    /* OF as if the count were 1, as in alu_shift(). */
    of = alu_msb(a, size) ^ (unsigned)(left ? a >> (bits - 2) : b);
    alu_set(fl, FL_ARITH, alu_szp(r, size) | cf | (of & 1) << 11);
    return r;
}

static int shift_double(struct vcpu *v, const struct insn *in)
{
    unsigned count = in->opcode & 1 ? (uint8_t)v->cpu.gpr[RCX] : (uint8_t)in->imm;
    uint64_t fl = v->cpu.rflags, r;
    struct dst d;

    if (dst_open(v, in, in->opsize, &d) != CPU_OK)
        return CPU_FAULT;
    r = alu_shift_double(in->opcode < 0xa8, d.old, op_gpr(v, in, in->reg, in->opsize), count,
                         in->opsize, &fl);
    if (dst_commit(v, in, &d, r) != CPU_OK)
        return CPU_FAULT;
    return op_done_flags(v, in, fl);
}

/* BT BTS BTR BTC; op 0-3. With a register offset and a memory operand the offset is signed and
 * reaches beyond the operand. */
static int bit_test(struct vcpu *v, const struct insn *in, unsigned op)
{
    unsigned size = in->opsize, bits = 8 * size, bit;
    uint64_t fl, r, off, ea;
    struct dst d;
    gva_t lin;
    int rc;

    off = in->opcode == 0xba ? (uint8_t)in->imm : op_gpr(v, in, in->reg, size);
    bit = (unsigned)off & (bits - 1);
    if (in->has_mem) {
        ea = op_ea(v, in);
        if (in->opcode != 0xba) {
            ea += (uint64_t)((int64_t)alu_sext(off, size) >> (3 + __builtin_ctz(size))) * size;
            ea &= alu_mask(in->addrsize);
        }
        if (op_linear(v, in, in->seg, ea, size, op ? ACC_WRITE : ACC_READ, &lin) != CPU_OK)
            return CPU_FAULT;
        if (op ? dst_open_at(v, lin, size, in->lock, &d) : op_load(v, lin, size, &d.old))
            return CPU_FAULT;
    } else if (dst_open(v, in, size, &d) != CPU_OK) {
        return CPU_FAULT;
    }
    do {
        fl = v->cpu.rflags;
        alu_set(&fl, FL_CF, (uint32_t)(d.old >> bit) & 1);
        if (!op)
            break;
        r = (uint64_t)1 << bit;
        r = op == 1 ? d.old | r : op == 2 ? d.old & ~r : d.old ^ r;
        rc = dst_commit(v, in, &d, r);
        if (rc == CPU_FAULT)
            return rc;
    } while (rc == DST_RETRY);
    return op_done_flags(v, in, fl);
}

static int cmpxchg(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->opsize;
    uint64_t acc = v->cpu.gpr[RAX] & alu_mask(size), src = op_gpr(v, in, in->reg, size), fl, old;
    struct dst d;
    int rc;

    if (dst_open(v, in, size, &d) != CPU_OK)
        return CPU_FAULT;
    do {
        fl = v->cpu.rflags;
        old = d.old;
        alu_sbb(acc, old, 0, size, &fl);
        /* The destination is written back even when it differs. */
        if (d.mem || old == acc)
            rc = dst_commit(v, in, &d, old == acc ? src : old);
        else
            rc = CPU_OK;
    } while (rc == DST_RETRY);
    if (rc != CPU_OK)
        return rc;
    if (old != acc)
        op_set_gpr(v, in, RAX, size, old);
    return op_done_flags(v, in, fl);
}

static bool host_cmpxchg16(void *p, uint64_t old[2], const uint64_t val[2])
{
    bool ok;

    __asm__ volatile("lock cmpxchg16b (%[p])"
                     : "=@ccz"(ok), "+a"(old[0]), "+d"(old[1])
                     : [p] "r"(p), "b"(val[0]), "c"(val[1])
                     : "memory");
    return ok;
}

static bool host_cmpxchg8(void *p, uint64_t *old, uint64_t val)
{
    bool ok;

    __asm__ volatile("lock cmpxchgq %[val], (%[p])"
                     : "=@ccz"(ok), "+a"(*old)
                     : [p] "r"(p), [val] "r"(val)
                     : "memory");
    return ok;
}

/* CMPXCHG8B, CMPXCHG16B: always as if locked, which a plain one may be taken for. */
static int cmpxchg_pair(struct vcpu *v, const struct insn *in)
{
    unsigned half = op_size(in) == 8 ? 8 : 4;
    uint64_t *g = v->cpu.gpr, m = alu_mask(half);
    uint64_t want[2] = {g[RAX] & m, g[RDX] & m}, val[2] = {g[RBX] & m, g[RCX] & m}, got[2] = {0, 0};
    uint64_t fl = v->cpu.rflags;
    void *host;
    bool traced, equal;
    gva_t lin;

    if (op_lin(v, in, 2 * half, ACC_WRITE, &lin) != CPU_OK)
        return CPU_FAULT;
    if (half == 8 && (lin & 15))
        return cpu_gp0(&v->cpu);
    if (interp_misaligned(v, lin, 8))
        return cpu_raise_error(&v->cpu, VEC_AC, 0);
    if (mem_host(v, lin, 2 * half, ACC_WRITE, &host, &traced) != CPU_OK)
        return CPU_FAULT;
    if (host && half == 8) {
        got[0] = want[0];
        got[1] = want[1];
        equal = host_cmpxchg16(host, got, val);
    } else if (host) {
        uint64_t old = want[0] | want[1] << 32;

        equal = host_cmpxchg8(host, &old, val[0] | val[1] << 32);
        got[0] = (uint32_t)old;
        got[1] = old >> 32;
    } else {
        if (mem_probe_write(v, lin, 2 * half, ACC_WRITE) != CPU_OK)
            return CPU_FAULT;
        interp_bus_lock();
        if (mem_read(v, lin, &got[0], half, ACC_READ) != CPU_OK ||
            mem_read(v, lin + half, &got[1], half, ACC_READ) != CPU_OK) {
            interp_bus_unlock();
            return CPU_FAULT;
        }
        equal = got[0] == want[0] && got[1] == want[1];
        mem_write(v, lin, equal ? &val[0] : &got[0], half, ACC_WRITE);
        mem_write(v, lin + half, equal ? &val[1] : &got[1], half, ACC_WRITE);
        interp_bus_unlock();
    }
    if (traced)
        interp_traced(v, host, 2 * half);
    alu_set(&fl, FL_ZF, equal ? FL_ZF : 0);
    if (!equal) {
        op_set_gpr(v, in, RAX, half, got[0]);
        op_set_gpr(v, in, RDX, half, got[1]);
    }
    return op_done_flags(v, in, fl);
}

static int xadd(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->opsize;
    uint64_t src = op_gpr(v, in, in->reg, size), fl, sum, old;
    struct dst d;
    int rc;

    if (dst_open(v, in, size, &d) != CPU_OK)
        return CPU_FAULT;
    if (!d.mem) {
        fl = v->cpu.rflags;
        sum = alu_adc(d.old, src, 0, size, &fl);
        /* One register named twice ends up with the sum. */
        op_set_gpr(v, in, in->reg, size, d.old);
        op_set_gpr(v, in, in->rm, size, sum);
        return op_done_flags(v, in, fl);
    }
    do {
        fl = v->cpu.rflags;
        old = d.old;
        sum = alu_adc(old, src, 0, size, &fl);
        rc = dst_commit(v, in, &d, sum);
    } while (rc == DST_RETRY);
    if (rc != CPU_OK)
        return rc;
    op_set_gpr(v, in, in->reg, size, old);
    return op_done_flags(v, in, fl);
}

/* BSF BSR, and with F3 TZCNT LZCNT. */
static int bit_scan(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->opsize, bits = 8 * size;
    bool reverse = in->opcode & 1, count = in->rep;
    uint64_t a, r, fl = v->cpu.rflags;

    if (op_read(v, in, size, &a) != CPU_OK)
        return CPU_FAULT;
    if (count) {
        if (!a)
            r = bits;
        else
            r = reverse ? (unsigned)__builtin_clzll(a) - (64 - bits) : (unsigned)__builtin_ctzll(a);
        op_set_gpr(v, in, in->reg, size, r);
        alu_set(&fl, FL_ARITH, (a ? 0 : FL_CF) | (r ? 0 : FL_ZF));
        return op_done_flags(v, in, fl);
    }
    if (!a) { /* destination unchanged, its upper half too */
        alu_set(&fl, FL_ARITH, FL_ZF | FL_PF);
        return op_done_flags(v, in, fl);
    }
    r = reverse ? 63 - (unsigned)__builtin_clzll(a) : (unsigned)__builtin_ctzll(a);
    op_set_gpr(v, in, in->reg, size, r);
    alu_set(&fl, FL_ARITH, alu_szp(r, size) & FL_PF);
    return op_done_flags(v, in, fl);
}

static int popcnt(struct vcpu *v, const struct insn *in)
{
    uint64_t a, n = 0, fl = v->cpu.rflags;

    if (op_read(v, in, in->opsize, &a) != CPU_OK)
        return CPU_FAULT;
    alu_set(&fl, FL_ARITH, a ? 0 : FL_ZF);
    for (; a; a &= a - 1)
        n++;
    op_set_gpr(v, in, in->reg, in->opsize, n);
    return op_done_flags(v, in, fl);
}

/* RDRAND, RDSEED: the host's own. CF says whether there was a value; without one, zero. */
static int random(struct vcpu *v, const struct insn *in)
{
    uint64_t r = 0, fl = v->cpu.rflags;
    bool ok = false;

    if ((in->modrm >> 3 & 7) == 7)
        __asm__ volatile("rdseed %0" : "=r"(r), "=@ccc"(ok) : : "cc");
    else
        __asm__ volatile("rdrand %0" : "=r"(r), "=@ccc"(ok) : : "cc");
    op_set_gpr(v, in, in->rm, in->opsize, ok ? r : 0);
    alu_set(&fl, FL_ARITH, ok ? FL_CF : 0);
    return op_done_flags(v, in, fl);
}

static int bswap(struct vcpu *v, const struct insn *in)
{
    unsigned size = op_size(in);
    uint64_t a = v->cpu.gpr[in->rm & 15];

    if (size == 8)
        a = __builtin_bswap64(a);
    else
        a = size == 4 ? __builtin_bswap32((uint32_t)a) : 0; /* 16-bit: undefined, zero on Intel */
    op_set_gpr(v, in, in->rm, size, a);
    return op_done(v, in);
}

/* CLFLUSH, CLFLUSHOPT, CLWB fault as a byte load does, and do nothing; fences order. */
static int fence_flush(struct vcpu *v, const struct insn *in)
{
    gva_t lin;
    void *host;
    bool traced;

    if (!in->has_mem) {
        __asm__ volatile("mfence" : : : "memory");
        return op_done(v, in);
    }
    if (op_lin(v, in, 1, ACC_READ, &lin) != CPU_OK ||
        mem_host(v, lin, 1, ACC_READ, &host, &traced) != CPU_OK)
        return CPU_FAULT;
    return op_done(v, in);
}

int interp_alu_0f(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->opsize, from;
    uint64_t val;

    switch (in->opcode) {
    case 0x0d:
    case 0x18 ... 0x1f:
        return op_done(v, in);
    case 0x40 ... 0x4f:
        if (op_read(v, in, size, &val) != CPU_OK)
            return CPU_FAULT;
        if (!alu_cond(in->opcode, v->cpu.rflags))
            val = op_gpr(v, in, in->reg, size);
        op_set_gpr(v, in, in->reg, size, val);
        return op_done(v, in);
    case 0x90 ... 0x9f:
        if (op_write(v, in, 1, alu_cond(in->opcode, v->cpu.rflags)) != CPU_OK)
            return CPU_FAULT;
        return op_done(v, in);
    case 0xa3:
        return bit_test(v, in, 0);
    case 0xab:
        return bit_test(v, in, 1);
    case 0xb3:
        return bit_test(v, in, 2);
    case 0xbb:
        return bit_test(v, in, 3);
    case 0xba:
        return bit_test(v, in, in->modrm >> 3 & 3);
    case 0xa4:
    case 0xa5:
    case 0xac:
    case 0xad:
        return shift_double(v, in);
    case 0xae:
        return fence_flush(v, in);
    case 0xaf:
        return interp_muldiv(v, in);
    case 0xb0:
    case 0xb1:
        return cmpxchg(v, in);
    case 0xb6:
    case 0xb7:
    case 0xbe:
    case 0xbf:
        from = in->opcode & 1 ? 2 : 1;
        if (op_read(v, in, from, &val) != CPU_OK)
            return CPU_FAULT;
        op_set_gpr(v, in, in->reg, size, in->opcode & 8 ? alu_sext(val, from) : val);
        return op_done(v, in);
    case 0xb8:
        return popcnt(v, in);
    case 0xbc:
    case 0xbd:
        return bit_scan(v, in);
    case 0xc0:
    case 0xc1:
        return xadd(v, in);
    case 0xc3:
        if (op_write(v, in, size, op_gpr(v, in, in->reg, size)) != CPU_OK)
            return CPU_FAULT;
        return op_done(v, in);
    case 0xc7:
        return in->has_mem ? cmpxchg_pair(v, in) : random(v, in);
    case 0xc8 ... 0xcf:
        return bswap(v, in);
    default:
        return cpu_raise(&v->cpu, VEC_UD);
    }
}

/* ---- 0F38, 0F3A ---- */

/* CRC-32C of one more value, bit by bit (polynomial 11edc6f41, reflected). */
static uint32_t crc32c(uint32_t crc, uint64_t val, unsigned size)
{
    for (unsigned i = 0; i < size; i++, val >>= 8) {
        crc ^= (uint8_t)val;
        for (int b = 0; b < 8; b++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

static int crc32(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->opcode == 0xf0 ? 1 : op_size(in);
    uint64_t val;

    if (op_read(v, in, size, &val) != CPU_OK)
        return CPU_FAULT;
    val = crc32c((uint32_t)v->cpu.gpr[in->reg & 15], val, size);
    v->cpu.gpr[in->reg & 15] = val;
    return op_done(v, in);
}

static uint64_t swap(uint64_t a, unsigned size)
{
    return size == 8   ? __builtin_bswap64(a)
           : size == 4 ? __builtin_bswap32((uint32_t)a)
                       : __builtin_bswap16((uint16_t)a);
}

static int movbe(struct vcpu *v, const struct insn *in)
{
    unsigned size = op_size(in);
    uint64_t val;

    if (in->opcode == 0xf1) {
        if (op_write(v, in, size, swap(op_gpr(v, in, in->reg, size), size)) != CPU_OK)
            return CPU_FAULT;
        return op_done(v, in);
    }
    if (op_read(v, in, size, &val) != CPU_OK)
        return CPU_FAULT;
    op_set_gpr(v, in, in->reg, size, swap(val, size));
    return op_done(v, in);
}

static int adx(struct vcpu *v, const struct insn *in)
{
    unsigned size = op_size(in) == 8 ? 8 : 4;
    uint32_t bit = in->pp == 1 ? FL_CF : FL_OF; /* 66: ADCX, F3: ADOX */
    uint64_t a, b, fl = v->cpu.rflags, r;
    unsigned __int128 sum;

    if (op_read(v, in, size, &b) != CPU_OK)
        return CPU_FAULT;
    a = op_gpr(v, in, in->reg, size);
    sum = (unsigned __int128)a + b + !!(fl & bit);
    r = (uint64_t)sum & alu_mask(size);
    alu_set(&fl, bit, (uint64_t)(sum >> (8 * size)) & 1 ? bit : 0);
    op_set_gpr(v, in, in->reg, size, r);
    return op_done_flags(v, in, fl);
}

static uint64_t pdep(uint64_t src, uint64_t mask)
{
    uint64_t r = 0;

    for (; mask; mask &= mask - 1, src >>= 1)
        if (src & 1)
            r |= mask & -mask;
    return r;
}

static uint64_t pext(uint64_t src, uint64_t mask)
{
    uint64_t r = 0, bit = 1;

    for (; mask; mask &= mask - 1, bit <<= 1)
        if (src & mask & -mask)
            r |= bit;
    return r;
}

/* VEX-coded general-register instructions. */
static int bmi(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->opsize == 8 ? 8 : 4, bits = 8 * size, n, len;
    uint64_t m = alu_mask(size), fl = v->cpu.rflags, a, r;
    uint64_t vv = v->cpu.gpr[in->vex_vvvv & 15] & m;
    unsigned dest = in->reg;

    if (op_read(v, in, size, &a) != CPU_OK)
        return CPU_FAULT;
    if (in->map == 3) { /* RORX */
        n = (unsigned)in->imm & (bits - 1);
        r = n ? (a >> n) | (a << (bits - n)) : a;
        op_set_gpr(v, in, dest, size, r);
        return op_done(v, in);
    }
    switch (in->opcode) {
    case 0xf2: /* ANDN */
        r = ~vv & a & m;
        alu_logic(r, size, &fl);
        alu_set(&fl, FL_PF, 0);
        break;
    case 0xf3: /* BLSR BLSMSK BLSI */
        dest = in->vex_vvvv;
        if ((in->modrm >> 3 & 7) == 1)
            r = (a - 1) & a;
        else if ((in->modrm >> 3 & 7) == 2)
            r = ((a - 1) ^ a) & m;
        else
            r = -a & a;
        alu_logic(r, size, &fl);
        alu_set(&fl, FL_CF, (in->modrm >> 3 & 7) == 3 ? a != 0 : a == 0);
        break;
    case 0xf5:
        if (in->pp == 0) { /* BZHI */
            n = (uint8_t)vv;
            r = n < bits ? a & (((uint64_t)1 << n) - 1) : a;
            alu_logic(r, size, &fl);
            alu_set(&fl, FL_CF | FL_PF, n >= bits); /* PF, undefined, is not computed */
        } else {
            r = in->pp == 3 ? pdep(vv, a) : pext(vv, a);
        }
        break;
    case 0xf6: { /* MULX: vvvv gets the low half, reg the high one and wins */
        unsigned __int128 p = (unsigned __int128)(v->cpu.gpr[RDX] & m) * a;

        op_set_gpr(v, in, in->vex_vvvv, size, (uint64_t)p & m);
        r = (uint64_t)(p >> bits) & m;
        break;
    }
    default:
        if (in->pp == 0) { /* BEXTR */
            n = (uint8_t)vv;
            len = (uint8_t)(vv >> 8);
            r = n < bits ? a >> n : 0;
            if (len < bits)
                r &= ((uint64_t)1 << len) - 1;
            alu_logic(r, size, &fl);
            alu_set(&fl, FL_PF, 0);
        } else { /* SHLX SARX SHRX */
            n = (unsigned)vv & (bits - 1);
            r = in->pp == 1   ? a << n
                : in->pp == 2 ? (uint64_t)((int64_t)alu_sext(a, size) >> n)
                              : a >> n;
        }
        break;
    }
    op_set_gpr(v, in, dest, size, r);
    return op_done_flags(v, in, fl);
}

int interp_alu_38(struct vcpu *v, const struct insn *in)
{
    if (in->vex)
        return bmi(v, in);
    if (in->map != 2)
        return cpu_raise(&v->cpu, VEC_UD);
    switch (in->opcode) {
    case 0xf0:
    case 0xf1:
        return in->repne ? crc32(v, in) : movbe(v, in);
    case 0xf6:
        return adx(v, in);
    default:
        return cpu_raise(&v->cpu, VEC_UD);
    }
}
