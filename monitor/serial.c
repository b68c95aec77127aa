/*
 * The 16550A at 0x3f8 (National PC16550D). The line is infinitely fast: what is transmitted is gone
 * at once, and what is received is data available without waiting for the trigger level.
 */
#include "monitor/machine.h"

#define IRQ_SERIAL 4

enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

#define IER_RX     0x01u
#define IER_THRE   0x02u
#define IER_LINE   0x04u
#define IER_MODEM  0x08u
#define IIR_NONE   0x01u
#define IIR_MODEM  0x00u
#define IIR_THRE   0x02u
#define IIR_RX     0x04u
#define IIR_LINE   0x06u
#define IIR_FIFO   0xc0u
#define FCR_ENABLE 0x01u
#define FCR_RX_CLR 0x02u
#define LCR_DLAB   0x80u
#define MCR_LOOP   0x10u
#define LSR_DR     0x01u
#define LSR_OE     0x02u
#define LSR_ERRORS 0x9eu
#define LSR_POLLS  4
#define LSR_IDLE   0x60u /* THRE, TEMT */
#define MSR_DELTAS 0x0fu
#define MSR_TERI   0x04u
#define MSR_RI     0x40u
#define MSR_READY  0xb0u /* CTS, DSR, DCD: the other side is always there */

static unsigned depth(const struct serial *s)
{
    return s->fcr & FCR_ENABLE ? 16 : 1;
}

/* The highest pending interrupt (PC16550D table "interrupt control functions"). */
static uint8_t pending(const struct serial *s)
{
    if ((s->ier & IER_LINE) && (s->lsr & LSR_ERRORS))
        return IIR_LINE;
    if ((s->ier & IER_RX) && s->rx_count)
        return IIR_RX;
    if ((s->ier & IER_THRE) && s->thr_empty_irq)
        return IIR_THRE;
    if ((s->ier & IER_MODEM) && (s->msr & MSR_DELTAS))
        return IIR_MODEM;
    return IIR_NONE;
}

static void update(struct machine *m)
{
    struct serial *s = &m->serial;
    uint8_t iir = pending(s);

    s->iir = iir | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
    if ((iir != IIR_NONE) == s->irq_line)
        return;
    s->irq_line = iir != IIR_NONE;
    irq_set(&m->cpus, IRQ_SERIAL, s->irq_line);
}

/* Modem inputs; in loop-back they are the modem outputs (DTR RTS OUT1 OUT2 as DSR CTS RI DCD). */
static void set_modem(struct serial *s)
{
    uint8_t now = MSR_READY;

    if (s->mcr & MCR_LOOP)
        now = (uint8_t)((s->mcr & 1) << 5 | (s->mcr & 2) << 3 | (s->mcr & 4) << 4 |
                        (s->mcr & 8) << 4);
    uint8_t delta = ((s->msr ^ now) >> 4) & (MSR_DELTAS & ~MSR_TERI);

    if ((s->msr & MSR_RI) && !(now & MSR_RI))
        delta |= MSR_TERI; /* the ring's trailing edge only */
    s->msr = now | (s->msr & MSR_DELTAS) | delta;
}

static void push(struct serial *s, uint8_t byte)
{
    if (s->rx_count >= depth(s)) {
        s->lsr |= LSR_OE;
        return;
    }
    s->rx[(s->rx_head + s->rx_count++) % sizeof(s->rx)] = byte;
}

static uint8_t pop(struct serial *s)
{
    if (!s->rx_count)
        return 0;
    uint8_t byte = s->rx[s->rx_head];

    s->rx_head = (s->rx_head + 1) % sizeof(s->rx);
    s->rx_count--;
    return byte;
}

/* Is there room for input? */
static bool receiving(const struct serial *s)
{
    return !(s->mcr & MCR_LOOP) && s->rx_count < depth(s);
}

void serial_init(struct machine *m)
{
    struct serial *s = &m->serial;

    *s = (struct serial){.iir = IIR_NONE, .lsr = LSR_IDLE, .msr = MSR_READY, .dll = 1};
    /* As a PC's firmware leaves it: 115200 8N1, DTR, RTS and OUT2 on. */
    s->lcr = 3;
    s->mcr = 0x0b;
}

static void transmit(struct machine *m, uint8_t byte)
{
    struct serial *s = &m->serial;

    if (s->mcr & MCR_LOOP)
        push(s, byte);
    else
        console_write(m, &byte, 1);
    /* THR was full for no time at all; but the line falls and rises again, for those who wait for
     * an edge. */
    s->lsr_polls = 0;
    s->thr_empty_irq = false;
    update(m);
    s->thr_empty_irq = true;
}

static void write_fcr(struct serial *s, uint8_t val)
{
    bool toggled = (val ^ s->fcr) & FCR_ENABLE;

    /* The other bits are programmed only with the enable bit; switching clears both FIFOs. */
    s->fcr = val & FCR_ENABLE ? val & 0xc9 : 0;
    if (toggled || (val & FCR_RX_CLR))
        s->rx_count = 0;
}

uint64_t serial_read(struct machine *m, uint16_t port, unsigned size)
{
    struct serial *s = &m->serial;
    bool dlab = s->lcr & LCR_DLAB;
    uint8_t val = 0;

    (void)size;
    switch (port & 7) {
    case RBR_THR:
        if (dlab) {
            val = s->dll;
            break;
        }
        val = pop(s);
        if (receiving(s))
            console_rx_space(m);
        break;
    case IER:
        val = dlab ? s->dlm : s->ier;
        break;
    case IIR_FCR:
        val = s->iir;
        /* Reading it as the source resets the THR-empty interrupt. */
        if ((val & 0x0f) == IIR_THRE)
            s->thr_empty_irq = false;
        break;
    case LCR:
        val = s->lcr;
        break;
    case MCR:
        val = s->mcr;
        break;
    case LSR:
        val = s->lsr | (s->rx_count ? LSR_DR : 0);
        s->lsr &= (uint8_t)~LSR_ERRORS;
        /* One look before each byte is a transmitter's; more are a receiver's that polls. */
        if (s->lsr_polls < LSR_POLLS)
            s->lsr_polls++;
        else if (receiving(s))
            console_rx_space(m);
        break;
    case MSR:
        val = s->msr;
        s->msr &= (uint8_t)~MSR_DELTAS;
        break;
    default:
        val = s->scr;
    }
    update(m);
    return val;
}

static void write_ier(struct machine *m, uint8_t val)
{
    struct serial *s = &m->serial;
    uint8_t was = s->ier;

    s->ier = val & 0x0f;
    /* Enabling it with THR empty, as it always is, raises it. */
    if ((s->ier & IER_THRE) && !(was & IER_THRE))
        s->thr_empty_irq = true;
    if ((s->ier & IER_RX) && !(was & IER_RX) && receiving(s))
        console_rx_space(m);
}

void serial_write(struct machine *m, uint16_t port, unsigned size, uint64_t val64)
{
    struct serial *s = &m->serial;
    bool dlab = s->lcr & LCR_DLAB;
    uint8_t val = (uint8_t)val64;

    (void)size;
    switch (port & 7) {
    case RBR_THR:
        if (dlab)
            s->dll = val;
        else
            transmit(m, val);
        break;
    case IER:
        if (dlab)
            s->dlm = val;
        else
            write_ier(m, val);
        break;
    case IIR_FCR:
        write_fcr(s, val);
        break;
    case LCR: /* BRK goes nowhere */
        s->lcr = val;
        break;
    case MCR:
        s->mcr = val & 0x1f;
        set_modem(s);
        break;
    case SCR:
        s->scr = val;
        break;
    default: /* LSR, MSR: factory test only */
        break;
    }
    update(m);
}

unsigned serial_receive(struct machine *m, const uint8_t *buf, unsigned len)
{
    struct serial *s = &m->serial;
    unsigned n = 0;

    if (s->mcr & MCR_LOOP) /* the line is cut off */
        return 0;
    while (n < len && s->rx_count < depth(s))
        push(s, buf[n++]);
    if (n)
        update(m);
    return n;
}
