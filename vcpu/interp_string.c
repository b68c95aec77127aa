/*
 * IC_STRING and INS/OUTS. Each element is complete before the next begins, with rCX, rSI, rDI
 * written back, so a fault or an interrupt finds a restartable instruction. MOVS and STOS go page
 * by page where they can; a long REP returns to the step loop now and then with RIP unmoved.
 */
#include "vcpu/interp_ops.h"
#include "vcpu/watch.h"

#define BATCH 4096u /* elements between two looks at pending interrupts */

struct str {
    unsigned size, asz; /* element, address */
    unsigned src_seg;
    uint64_t amask;
    int64_t step;
};

static int src_lin(struct vcpu *v, const struct insn *in, const struct str *s, gva_t *lin)
{
    return op_linear(v, in, s->src_seg, v->cpu.gpr[RSI] & s->amask, s->size, ACC_READ, lin);
}

static int dst_lin(struct vcpu *v, const struct insn *in, const struct str *s, unsigned acc,
                   gva_t *lin)
{
    return op_linear(v, in, SEG_ES, v->cpu.gpr[RDI] & s->amask, s->size, acc, lin);
}

static void advance(struct vcpu *v, const struct str *s, unsigned reg, uint64_t n)
{
    op_set_addr(v, reg, s->asz, v->cpu.gpr[reg] + (uint64_t)s->step * n);
}

/* Elements from ea on, in the direction of DF, that stay inside one page and do not wrap the
 * address size. */
static uint64_t room(const struct str *s, uint64_t ea, gva_t lin)
{
    uint64_t at = lin & (PAGE_SIZE - 1), page = (PAGE_SIZE - at) / s->size;
    uint64_t wrap = (s->amask - ea) / s->size;

    if (s->step < 0) {
        page = at + s->size > PAGE_SIZE ? 0 : at / s->size + 1;
        wrap = ea / s->size + 1;
    }
    return page < wrap ? page : wrap;
}

static void host_movs(void *to, const void *from, uint64_t n, unsigned size)
{
    switch (size) {
    case 1:
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    case 2:
        __asm__ volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    case 4:
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    default:
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    }
}

static void host_stos(void *to, uint64_t val, uint64_t n, unsigned size)
{
    switch (size) {
    case 1:
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(val) : "memory");
        break;
    case 2:
        __asm__ volatile("rep stosw" : "+D"(to), "+c"(n) : "a"(val) : "memory");
        break;
    case 4:
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(val) : "memory");
        break;
    default:
        __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(val) : "memory");
        break;
    }
}

/* The same downwards, to and from being the last in memory. */
static void host_movs_down(void *to, const void *from, uint64_t n, unsigned size)
{
    switch (size) {
    case 1:
        __asm__ volatile("std\n\trep movsb\n\tcld"
                         : "+D"(to), "+S"(from), "+c"(n)
                         :
                         : "memory", "cc");
        break;
    case 2:
        __asm__ volatile("std\n\trep movsw\n\tcld"
                         : "+D"(to), "+S"(from), "+c"(n)
                         :
                         : "memory", "cc");
        break;
    case 4:
        __asm__ volatile("std\n\trep movsl\n\tcld"
                         : "+D"(to), "+S"(from), "+c"(n)
                         :
                         : "memory", "cc");
        break;
    default:
        __asm__ volatile("std\n\trep movsq\n\tcld"
                         : "+D"(to), "+S"(from), "+c"(n)
                         :
                         : "memory", "cc");
        break;
    }
}

/*
 * As many elements of a MOVS or a forward STOS as lie in one page (pair), done by the host's own
 * REP with the same element size, so overlapping operands propagate as they would. 0: none; the
 * element-wise path finds out why. The host pointers are the truth about overlap, also when two
 * linear pages share a frame.
 */
static uint64_t bulk(struct vcpu *v, const struct insn *in, const struct str *s, uint64_t count)
{
    struct cpu *c = &v->cpu;
    bool movs = (in->opcode & ~1u) == 0xa4, down = s->step < 0, traced, unused;
    uint64_t dea = c->gpr[RDI] & s->amask, sea = c->gpr[RSI] & s->amask, n, m, last;
    void *to, *from = NULL;
    gva_t dst, src;

    if ((down && !movs) || (c->rflags & FL_TF) || watch_any(v) ||
        (c->cpl == 3 && (c->rflags & FL_AC)))
        return 0;
    if (dst_lin(v, in, s, ACC_WRITE, &dst) != CPU_OK)
        return 0;
    n = room(s, dea, dst);
    n = n < count ? n : count;
    if (movs) {
        if (src_lin(v, in, s, &src) != CPU_OK)
            return 0;
        m = room(s, sea, src);
        n = n < m ? n : m;
    }
    if (n < 2)
        return 0;
    last = (n - 1) * s->size;
    if (down) { /* from here on where the stretch begins in memory */
        dea -= last;
        sea -= last;
    }
    /* The whole stretch against the segments' limits. */
    if (op_linear(v, in, SEG_ES, dea, (unsigned)n * s->size, ACC_WRITE, &dst) != CPU_OK)
        return 0;
    if (movs) {
        if (op_linear(v, in, s->src_seg, sea, (unsigned)n * s->size, ACC_READ, &src) != CPU_OK ||
            mem_host(v, src, (unsigned)n * s->size, ACC_READ, &from, &unused) != CPU_OK || !from)
            return 0;
    }
    if (mem_host(v, dst, (unsigned)n * s->size, ACC_WRITE, &to, &traced) != CPU_OK || !to)
        return 0;
    if (movs) {
        if (down)
            host_movs_down((uint8_t *)to + last, (uint8_t *)from + last, n, s->size);
        else
            host_movs(to, from, n, s->size);
        advance(v, s, RSI, n);
    } else {
        host_stos(to, c->gpr[RAX], n, s->size);
    }
    advance(v, s, RDI, n);
    if (traced)
        interp_traced(v, to, (unsigned)n * s->size);
    return n;
}

/* One element of MOVS CMPS STOS LODS SCAS. */
static int element(struct vcpu *v, const struct insn *in, const struct str *s)
{
    struct cpu *c = &v->cpu;
    uint64_t a, b;
    gva_t src, dst;

    switch (in->opcode & ~1u) {
    case 0xa4:
        if (src_lin(v, in, s, &src) != CPU_OK || op_load(v, src, s->size, &a) != CPU_OK ||
            dst_lin(v, in, s, ACC_WRITE, &dst) != CPU_OK || op_store(v, dst, s->size, a) != CPU_OK)
            return CPU_FAULT;
        advance(v, s, RSI, 1);
        advance(v, s, RDI, 1);
        return CPU_OK;
    case 0xa6:
        if (src_lin(v, in, s, &src) != CPU_OK || op_load(v, src, s->size, &a) != CPU_OK ||
            dst_lin(v, in, s, ACC_READ, &dst) != CPU_OK || op_load(v, dst, s->size, &b) != CPU_OK)
            return CPU_FAULT;
        alu_sbb(a, b, 0, s->size, &c->rflags);
        advance(v, s, RSI, 1);
        advance(v, s, RDI, 1);
        return CPU_OK;
    case 0xaa:
        if (dst_lin(v, in, s, ACC_WRITE, &dst) != CPU_OK ||
            op_store(v, dst, s->size, c->gpr[RAX]) != CPU_OK)
            return CPU_FAULT;
        advance(v, s, RDI, 1);
        return CPU_OK;
    case 0xac:
        if (src_lin(v, in, s, &src) != CPU_OK || op_load(v, src, s->size, &a) != CPU_OK)
            return CPU_FAULT;
        op_set_gpr(v, in, RAX, s->size, a);
        advance(v, s, RSI, 1);
        return CPU_OK;
    default:
        if (dst_lin(v, in, s, ACC_READ, &dst) != CPU_OK || op_load(v, dst, s->size, &b) != CPU_OK)
            return CPU_FAULT;
        alu_sbb(c->gpr[RAX] & alu_mask(s->size), b, 0, s->size, &c->rflags);
        advance(v, s, RDI, 1);
        return CPU_OK;
    }
}

/* One element of INS, OUTS. The memory side is checked before the port is touched. */
static int io_element(struct vcpu *v, const struct insn *in, const struct str *s)
{
    uint16_t port = (uint16_t)v->cpu.gpr[RDX];
    uint64_t val;
    gva_t lin;

    if (in->opcode < 0x6e) {
        if (dst_lin(v, in, s, ACC_WRITE, &lin) != CPU_OK ||
            mem_probe_write(v, lin, s->size, ACC_WRITE) != CPU_OK)
            return CPU_FAULT;
        if (interp_misaligned(v, lin, s->size))
            return cpu_raise_error(&v->cpu, VEC_AC, 0);
        val = interp_pio_read(v, port, s->size);
        if (op_store(v, lin, s->size, val) != CPU_OK)
            return CPU_FAULT;
        advance(v, s, RDI, 1);
    } else {
        if (src_lin(v, in, s, &lin) != CPU_OK || op_load(v, lin, s->size, &val) != CPU_OK)
            return CPU_FAULT;
        interp_pio_write(v, port, s->size, val);
        advance(v, s, RSI, 1);
    }
    return CPU_OK;
}

int interp_string(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    bool io = in->opcode < 0x70, rep = in->rep || in->repne;
    bool compares = (in->opcode & 0xf6) == 0xa6; /* CMPS, SCAS: a6 a7 ae af */
    bool bulky = rep && ((in->opcode & ~1u) == 0xa4 || (in->opcode & ~1u) == 0xaa);
    struct str s = {.size = in->opsize, .asz = in->addrsize};
    uint64_t count, done = 0, n, flags = c->rflags;
    unsigned batch = (c->rflags & FL_TF) || watch_any(v) ? 1 : io ? 64 : BATCH;

    if (io && s.size == 8)
        s.size = 4;
    s.src_seg = in->seg_override == REG_NONE ? SEG_DS : in->seg_override;
    s.amask = alu_mask(s.asz);
    s.step = c->rflags & FL_DF ? -(int64_t)s.size : (int64_t)s.size;
    if (io && interp_io_allowed(v, (uint16_t)c->gpr[RDX], s.size) != CPU_OK)
        return CPU_FAULT;
    if (!rep) {
        if ((io ? io_element : element)(v, in, &s) != CPU_OK)
            return CPU_FAULT;
        return op_done(v, in);
    }
    count = c->gpr[RCX] & s.amask;
    while (count && done < batch) {
        n = bulky && count > 3 ? bulk(v, in, &s, count) : 0;
        if (!n) {
            if ((io ? io_element : element)(v, in, &s) != CPU_OK) {
                c->rflags = flags; /* SDM 2B, REP: flags as before, rCX rSI rDI at this element */
                return CPU_FAULT;
            }
            n = 1;
        }
        count -= n;
        done += n;
        op_set_addr(v, RCX, s.asz, count);
        if (compares && !(c->rflags & FL_ZF) != in->repne)
            return op_done(v, in);
        if (io && atomic_load_explicit(&v->vm->stop, memory_order_relaxed))
            break;
    }
    if (!count)
        return op_done(v, in);
    c->rflags |= FL_RF; /* an instruction breakpoint on it was seen already */
    return CPU_OK;
}
