#include "monitor/gdb_regs.h"

#include <string.h>

/* The legacy part of the XSAVE area (SDM 1 table 10-2), and components after it. */
enum {
    FX_FCW = 0,
    FX_FSW = 2,
    FX_FTW = 4,
    FX_FOP = 6,
    FX_FIP = 8,
    FX_FDP = 16,
    FX_MXCSR = 24,
    FX_ST = 32,
    FX_XMM = 160,
    XS_BV = 512,
    XS_YMMH = 576
};
#define MXCSR_DEFINED 0xffffu

enum kind { GPR, RIP, FLAGS, SELECTOR, ST, X87, XMM, MXCSR, BASE, CONTROL, YMMH };
enum { FCTRL, FSTAT, FTAG, FISEG, FIOFF, FOSEG, FOOFF, FOP };
enum { FS_BASE, GS_BASE, KERNEL_GS_BASE };
enum { CR0, CR2, CR3, CR4, CR8, EFER };

struct run {
    const char *feature; /* begins with this register, or NULL */
    const char *names;   /* of the registers, one space between */
    const char *type;
    const char *more; /* attributes */
    uint8_t bytes, kind, first, count;
};

static const char types_core[] =
    "<flags id=\"i386_eflags\" size=\"4\">"
    "<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/>"
    "<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
    "<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
    "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
    "<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
    "<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
    "<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
    "<field name=\"VIF\" start=\"19\" end=\"19\"/><field name=\"VIP\" start=\"20\" end=\"20\"/>"
    "<field name=\"ID\" start=\"21\" end=\"21\"/></flags>";
static const char types_sse[] =
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
    "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
    "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
    "<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
    "<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
    "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>"
    "<flags id=\"i386_mxcsr\" size=\"4\">"
    "<field name=\"IE\" start=\"0\" end=\"0\"/><field name=\"DE\" start=\"1\" end=\"1\"/>"
    "<field name=\"ZE\" start=\"2\" end=\"2\"/><field name=\"OE\" start=\"3\" end=\"3\"/>"
    "<field name=\"UE\" start=\"4\" end=\"4\"/><field name=\"PE\" start=\"5\" end=\"5\"/>"
    "<field name=\"DAZ\" start=\"6\" end=\"6\"/><field name=\"IM\" start=\"7\" end=\"7\"/>"
    "<field name=\"DM\" start=\"8\" end=\"8\"/><field name=\"ZM\" start=\"9\" end=\"9\"/>"
    "<field name=\"OM\" start=\"10\" end=\"10\"/><field name=\"UM\" start=\"11\" end=\"11\"/>"
    "<field name=\"PM\" start=\"12\" end=\"12\"/><field name=\"FZ\" start=\"15\" end=\"15\"/>"
    "</flags>";

/* In the order and by the names of GDB's manual, "i386 Features"; org.mayfly.system is our own. AVX
 * comes last, so that the numbers of the others are the same without it. */
static const struct run runs64[] = {
    {"org.gnu.gdb.i386.core", "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15",
     "int64", "", 8, GPR, 0, 16},
    {NULL, "rip", "code_ptr", "", 8, RIP, 0, 1},
    {NULL, "eflags", "i386_eflags", "", 4, FLAGS, 0, 1},
    {NULL, "cs ss ds es fs gs", "int32", "", 4, SELECTOR, 0, 6},
    {NULL, "st0 st1 st2 st3 st4 st5 st6 st7", "i387_ext", "", 10, ST, 0, 8},
    {NULL, "fctrl fstat ftag fiseg fioff foseg fooff fop", "int", " group=\"float\"", 4, X87, 0, 8},
    {"org.gnu.gdb.i386.sse",
     "xmm0 xmm1 xmm2 xmm3 xmm4 xmm5 xmm6 xmm7 xmm8 xmm9 xmm10 xmm11 xmm12 xmm13 xmm14 xmm15",
     "vec128", "", 16, XMM, 0, 16},
    {NULL, "mxcsr", "i386_mxcsr", " group=\"vector\"", 4, MXCSR, 0, 1},
    {"org.gnu.gdb.i386.segments", "fs_base gs_base", "int", "", 8, BASE, FS_BASE, 2},
    {"org.mayfly.system", "k_gs_base", "int64", " group=\"system\"", 8, BASE, KERNEL_GS_BASE, 1},
    {NULL, "cr0 cr2 cr3 cr4 cr8 efer", "int64", " group=\"system\"", 8, CONTROL, CR0, 6},
    {"org.gnu.gdb.i386.avx",
     "ymm0h ymm1h ymm2h ymm3h ymm4h ymm5h ymm6h ymm7h ymm8h ymm9h ymm10h ymm11h ymm12h ymm13h "
     "ymm14h ymm15h",
     "uint128", "", 16, YMMH, 0, 16},
};
static const struct run runs32[] = {
    {"org.gnu.gdb.i386.core", "eax ecx edx ebx", "int32", "", 4, GPR, 16, 4},
    {NULL, "esp ebp", "data_ptr", "", 4, GPR, 20, 2},
    {NULL, "esi edi", "int32", "", 4, GPR, 22, 2},
    {NULL, "eip", "code_ptr", "", 4, RIP, 0, 1},
    {NULL, "eflags", "i386_eflags", "", 4, FLAGS, 0, 1},
    {NULL, "cs ss ds es fs gs", "int32", "", 4, SELECTOR, 0, 6},
    {NULL, "st0 st1 st2 st3 st4 st5 st6 st7", "i387_ext", "", 10, ST, 0, 8},
    {NULL, "fctrl fstat ftag fiseg fioff foseg fooff fop", "int", " group=\"float\"", 4, X87, 0, 8},
    {"org.gnu.gdb.i386.sse", "xmm0 xmm1 xmm2 xmm3 xmm4 xmm5 xmm6 xmm7", "vec128", "", 16, XMM, 0,
     8},
    {NULL, "mxcsr", "i386_mxcsr", " group=\"vector\"", 4, MXCSR, 0, 1},
    {"org.mayfly.system", "cr0 cr2 cr3 cr4 cr8 efer", "int32", " group=\"system\"", 4, CONTROL, CR0,
     6},
    {"org.gnu.gdb.i386.avx", "ymm0h ymm1h ymm2h ymm3h ymm4h ymm5h ymm6h ymm7h", "uint128", "", 16,
     YMMH, 0, 8},
};
#define COUNT(a) (sizeof(a) / sizeof(a[0]))

static const struct run *table(struct gdb_layout l, unsigned *n)
{
    *n = (l.i386 ? COUNT(runs32) : COUNT(runs64)) - !l.avx;
    return l.i386 ? runs32 : runs64;
}

static const struct run *find(struct gdb_layout l, unsigned n, unsigned *index)
{
    unsigned nruns;
    const struct run *runs = table(l, &nruns);

    for (unsigned i = 0; i < nruns; i++) {
        if (n < runs[i].count) {
            *index = runs[i].first + n;
            return &runs[i];
        }
        n -= runs[i].count;
    }
    return NULL;
}

unsigned gdb_regs(struct gdb_layout l)
{
    unsigned n = 0, nruns;
    const struct run *runs = table(l, &nruns);

    for (unsigned i = 0; i < nruns; i++)
        n += runs[i].count;
    return n;
}

unsigned gdb_reg_size(struct gdb_layout l, unsigned n)
{
    unsigned index;
    const struct run *r = find(l, n, &index);

    return r ? r->bytes : 0;
}

/* --- the description --- */

struct xml {
    size_t len;
    char text[16384];
};

static void add(struct xml *x, const char *s, size_t n)
{
    if (n < sizeof x->text - x->len) {
        memcpy(x->text + x->len, s, n);
        x->len += n;
    }
}

static void adds(struct xml *x, const char *s)
{
    add(x, s, strlen(s));
}

static void describe(struct xml *x, const struct run *r)
{
    char size[] = {(char)('0' + r->bytes * 8 / 100), (char)('0' + r->bytes * 8 / 10 % 10),
                   (char)('0' + r->bytes * 8 % 10), 0};

    for (const char *name = r->names; *name;) {
        size_t n = strcspn(name, " ");

        adds(x, "<reg name=\"");
        add(x, name, n);
        adds(x, "\" bitsize=\"");
        adds(x, size[0] == '0' ? size + 1 : size);
        adds(x, "\" type=\"");
        adds(x, r->type);
        adds(x, "\"");
        adds(x, r->more);
        adds(x, "/>\n");
        name += n + (name[n] == ' ');
    }
}

const char *gdb_description(struct gdb_layout l, size_t *len)
{
    static struct xml x;
    unsigned nruns;
    const struct run *runs = table(l, &nruns);

    x.len = 0;
    adds(&x, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
             "<architecture>");
    adds(&x, l.i386 ? "i386" : "i386:x86-64");
    adds(&x, "</architecture>\n");
    for (unsigned i = 0; i < nruns; i++) {
        if (runs[i].feature) {
            adds(&x, i ? "</feature>\n<feature name=\"" : "<feature name=\"");
            adds(&x, runs[i].feature);
            adds(&x, "\">\n");
            adds(&x, i == 0 ? types_core : runs[i].kind == XMM ? types_sse : "");
        }
        describe(&x, &runs[i]);
    }
    adds(&x, "</feature></target>\n");
    x.text[x.len] = 0;
    *len = x.len;
    return x.text;
}

/* --- values --- */

static const uint8_t gpr_order[] = {
    RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8,  R9,  R10, R11,
    R12, R13, R14, R15, RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI}; /* from 16: i386 */
static const uint8_t seg_order[] = {SEG_CS, SEG_SS, SEG_DS, SEG_ES, SEG_FS, SEG_GS};

static uint64_t get(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;

    memcpy(&v, p, n);
    return v;
}

/* Components that XSTATE_BV leaves out are in their initial state (SDM 1 13.6). */
static void settle(uint8_t *area)
{
    uint64_t bv = get(area + XS_BV, 8);

    if (!(bv & 1)) {
        memset(area, 0, FX_MXCSR);
        memset(area + FX_ST, 0, FX_XMM - FX_ST);
        area[FX_FCW] = 0x7f;
        area[FX_FCW + 1] = 0x03;
    }
    if (!(bv & 2))
        memset(area + FX_XMM, 0, 256);
    if (!(bv & 6))
        memcpy(area + FX_MXCSR, &(uint32_t){0x1f80}, 4);
    if (!(bv & 4))
        memset(area + XS_YMMH, 0, 256);
    bv |= XCR0_SUPPORTED;
    memcpy(area + XS_BV, &bv, 8);
}

/* The tag word from the abridged one (SDM 1 10.5.1): 0 valid, 1 zero, 2 special, 3
 * empty, by physical register. */
static uint16_t full_tags(const uint8_t *area)
{
    unsigned top = area[FX_FSW + 1] >> 3 & 7, tags = 0;

    for (unsigned i = 0; i < 8; i++) {
        const uint8_t *st = area + FX_ST + 16 * ((i - top) & 7);
        uint64_t mant = get(st, 8), exp = get(st + 8, 2) & 0x7fff;
        unsigned tag = 0;

        if (!(area[FX_FTW] >> i & 1))
            tag = 3;
        else if (!exp && !mant)
            tag = 1;
        else if (!exp || exp == 0x7fff || !(mant >> 63))
            tag = 2;
        tags |= tag << 2 * i;
    }
    return (uint16_t)tags;
}

static uint64_t x87_read(const uint8_t *area, unsigned index)
{
    switch (index) {
    case FCTRL:
        return get(area + FX_FCW, 2);
    case FSTAT:
        return get(area + FX_FSW, 2);
    case FTAG:
        return full_tags(area);
    case FISEG:
        return get(area + FX_FIP + 4, 2);
    case FIOFF:
        return get(area + FX_FIP, 4);
    case FOSEG:
        return get(area + FX_FDP + 4, 2);
    case FOOFF:
        return get(area + FX_FDP, 4);
    }
    return get(area + FX_FOP, 2) & 0x7ff;
}

static void x87_write(uint8_t *area, unsigned index, uint32_t val)
{
    unsigned tags = 0;

    switch (index) {
    case FCTRL:
        val = (val & 0x1f3f) | 0x40;
        memcpy(area + FX_FCW, &val, 2);
        break;
    case FSTAT:
        memcpy(area + FX_FSW, &val, 2);
        break;
    case FTAG:
        for (unsigned i = 0; i < 8; i++)
            tags |= (val >> 2 * i & 3) != 3 ? 1u << i : 0;
        area[FX_FTW] = (uint8_t)tags;
        break;
    case FISEG:
        memcpy(area + FX_FIP + 4, &val, 2);
        break;
    case FIOFF:
        memcpy(area + FX_FIP, &val, 4);
        break;
    case FOSEG:
        memcpy(area + FX_FDP + 4, &val, 2);
        break;
    case FOOFF:
        memcpy(area + FX_FDP, &val, 4);
        break;
    case FOP:
        val &= 0x7ff;
        memcpy(area + FX_FOP, &val, 2);
        break;
    }
}

static const uint64_t *plain(const struct cpu *c, const struct run *r, unsigned index)
{
    const uint64_t *const base[] = {&c->seg[SEG_FS].base, &c->seg[SEG_GS].base, &c->kernel_gs_base};
    const uint64_t *const control[] = {&c->cr0, &c->cr2, &c->cr3, &c->cr4, &c->cr8, &c->efer};

    switch (r->kind) {
    case GPR:
        return &c->gpr[gpr_order[index]];
    case RIP:
        return &c->rip;
    case BASE:
        return base[index];
    case CONTROL:
        return control[index];
    }
    return NULL;
}

/* Where in the XSAVE area. */
static unsigned place(const struct run *r, unsigned index)
{
    return r->kind == ST      ? FX_ST + 16 * index
           : r->kind == XMM   ? FX_XMM + 16 * index
           : r->kind == MXCSR ? FX_MXCSR
                              : XS_YMMH + 16 * index;
}

void gdb_reg_read(const struct vcpu *v, struct gdb_layout l, unsigned n, uint8_t to[GDB_REG_SIZE])
{
    uint8_t area[XSAVE_AREA_SIZE];
    const struct cpu *c = &v->cpu;
    unsigned index = 0;
    const struct run *r = find(l, n, &index);

    memset(to, 0, GDB_REG_SIZE);
    if (!r)
        return;
    memcpy(area, c->xsave, sizeof area);
    settle(area);
    switch (r->kind) {
    case FLAGS:
        memcpy(to, &c->rflags, 4);
        break;
    case SELECTOR:
        memcpy(to, &c->seg[seg_order[index]].sel, 2);
        break;
    case X87:
        memcpy(to, &(uint64_t){x87_read(area, index)}, 4);
        break;
    case ST:
    case XMM:
    case MXCSR:
    case YMMH:
        memcpy(to, area + place(r, index), r->bytes);
        break;
    default:
        memcpy(to, plain(c, r, index), r->bytes);
    }
}

/* The same value is fine everywhere: GDB writes back what it has read. */
static bool unchanged(const struct vcpu *v, struct gdb_layout l, unsigned n, const uint8_t *from,
                      unsigned bytes)
{
    uint8_t now[GDB_REG_SIZE];

    gdb_reg_read(v, l, n, now);
    return !memcmp(now, from, bytes);
}

bool gdb_set_rip(struct vcpu *v, uint64_t rip)
{
    if (cpu_code64(&v->cpu) ? !canonical(rip) : rip >> 32 != 0)
        return false;
    v->cpu.rip = rip;
    return true;
}

bool gdb_reg_write(struct vcpu *v, struct gdb_layout l, unsigned n,
                   const uint8_t from[GDB_REG_SIZE])
{
    struct cpu *c = &v->cpu;
    unsigned index = 0;
    const struct run *r = find(l, n, &index);

    if (!r)
        return false;
    uint64_t val = get(from, r->bytes < 8 ? r->bytes : 8);

    if (unchanged(v, l, n, from, r->bytes))
        return true;
    switch (r->kind) {
    case SELECTOR: /* its descriptor would have to come along */
        return false;
    case CONTROL:
        if (index != CR2)
            return false;
        break;
    case RIP:
        return gdb_set_rip(v, val);
    case BASE:
        if (!canonical(val))
            return false;
        break;
    case FLAGS:
        val = (val & FL_DEFINED & ~(uint64_t)FL_VM) | (c->rflags & FL_VM) | FL_R1;
        c->rflags = val;
        return true;
    case X87:
        settle(c->xsave);
        x87_write(c->xsave, index, (uint32_t)val);
        return true;
    case MXCSR:
        settle(c->xsave);
        val &= MXCSR_DEFINED;
        memcpy(c->xsave + FX_MXCSR, &val, 4);
        return true;
    case ST:
    case XMM:
    case YMMH:
        settle(c->xsave);
        memcpy(c->xsave + place(r, index), from, r->bytes);
        return true;
    }
    memcpy((uint64_t *)(uintptr_t)plain(c, r, index), &val, 8);
    return true;
}
