/* Legacy ports: i8042, the ways to reset, the ways to say an exit status, debug output. */
#include "monitor/legacy.h"

/* --- i8042: a controller with nothing plugged in --- */

#define ST_OBF      0x01u
#define ST_SYS      0x04u
#define ST_COMMAND  0x08u /* the last write was to 0x64 */
#define ST_UNLOCK   0x10u
#define ST_TIMEOUT  0x40u
#define CFG_IRQ1    0x01u
#define CFG_KBD_OFF 0x10u
#define CFG_AUX_OFF 0x20u
#define RESEND      0xfeu

static void i8042_update(struct machine *m)
{
    struct i8042 *k = &m->i8042;
    bool line = (k->status & ST_OBF) && (k->config & CFG_IRQ1);

    if (line == k->irq_line)
        return;
    k->irq_line = line;
    irq_set(&m->cpus, 1, line);
}

static void i8042_reply(struct machine *m, uint8_t val, uint8_t flags)
{
    struct i8042 *k = &m->i8042;

    k->out = val;
    k->status = (uint8_t)((k->status & ~ST_TIMEOUT) | ST_OBF | flags);
    i8042_update(m);
}

/* Output port: bit 0 low resets the CPU, bit 1 is A20, which is always on. */
static void set_outport(struct machine *m, uint8_t val)
{
    m->i8042.outport = val;
    if (!(val & 1))
        machine_stop(m, STATUS_OK, "i8042 reset");
}

static void i8042_command(struct machine *m, uint8_t cmd)
{
    struct i8042 *k = &m->i8042;

    k->command = 0;
    k->status |= ST_COMMAND;
    switch (cmd) {
    case 0x20:
        i8042_reply(m, k->config, 0);
        break;
    case 0x60: /* with a data byte: configuration, output port, output buffers, mouse */
    case 0xd1 ... 0xd4:
        k->command = cmd;
        break;
    case 0xa7:
        k->config |= CFG_AUX_OFF;
        break;
    case 0xa8:
        k->config &= (uint8_t)~CFG_AUX_OFF;
        break;
    case 0xa9: /* mouse port test: clock line stuck low, there is none */
        i8042_reply(m, 0x01, 0);
        break;
    case 0xaa:
        k->status |= ST_SYS;
        i8042_reply(m, 0x55, 0);
        break;
    case 0xab:
        i8042_reply(m, 0x00, 0);
        break;
    case 0xad:
        k->config |= CFG_KBD_OFF;
        break;
    case 0xae:
        k->config &= (uint8_t)~CFG_KBD_OFF;
        break;
    case 0xc0:
        i8042_reply(m, 0x80, 0);
        break;
    case 0xd0:
        i8042_reply(m, k->outport | 3, 0);
        break;
    case 0xf0 ... 0xff: /* pulse the output port's lines whose bits are 0 */
        if (!(cmd & 1))
            machine_stop(m, STATUS_OK, "i8042 reset");
        break;
    default:
        break;
    }
}

static void i8042_data(struct machine *m, uint8_t val)
{
    struct i8042 *k = &m->i8042;
    uint8_t cmd = k->command;

    k->command = 0;
    k->status &= (uint8_t)~ST_COMMAND;
    switch (cmd) {
    case 0x60:
        k->config = val;
        i8042_update(m);
        break;
    case 0xd1:
        set_outport(m, val);
        break;
    case 0xd2:
        i8042_reply(m, val, 0);
        break;
    case 0xd3: /* loop through the mouse port, which is not there */
        i8042_reply(m, 0, 0);
        break;
    default: /* to a keyboard or a mouse: nobody answers */
        i8042_reply(m, RESEND, ST_TIMEOUT);
    }
}

uint64_t i8042_read(struct machine *m, uint16_t port, unsigned size)
{
    struct i8042 *k = &m->i8042;

    (void)size;
    if (port == 0x64)
        return k->status | ST_UNLOCK;
    k->status &= (uint8_t) ~(ST_OBF | ST_TIMEOUT);
    i8042_update(m);
    return k->out;
}

void i8042_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)size;
    if (port == 0x64)
        i8042_command(m, (uint8_t)val);
    else
        i8042_data(m, (uint8_t)val);
}

/* --- reset --- */

uint64_t port92_read(struct machine *m, uint16_t port, unsigned size)
{
    (void)port, (void)size;
    return (m->port92 & 0xfeu) | 2; /* A20 is on */
}

void port92_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)port, (void)size;
    if ((val & 1) && !(m->port92 & 1))
        machine_stop(m, STATUS_OK, "port 0x92 reset");
    m->port92 = (uint8_t)val;
}

uint64_t reset_read(struct machine *m, uint16_t port, unsigned size)
{
    (void)port, (void)size;
    return m->port_cf9;
}

/* Bit 2's rising edge resets, bit 1 says how hard (ICH datasheets, RST_CNT). */
void reset_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)port, (void)size;
    if ((val & 4) && !(m->port_cf9 & 4))
        machine_stop(m, STATUS_OK, "port 0xcf9 reset");
    m->port_cf9 = val & 0x0e;
}

/* --- end --- */

void exit_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)size;
    /* Hermit says there what makes QEMU's isa-debug-exit, status 2 val + 1, end with 3 or 1. */
    if (port == 0xf4 && m->boot.hermit && val <= 1)
        val ^= 1;
    machine_stop(m, (int)(val & 0xff), port == 0xf4 ? "exit port 0xf4" : "exit port 0x501");
}

/* pvpanic: bit 0 panicked, bit 1 a crash kernel takes over (which goes on by itself). */
uint64_t pvpanic_read(struct machine *m, uint16_t port, unsigned size)
{
    (void)m, (void)port, (void)size;
    return 3;
}

void pvpanic_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)port, (void)size;
    if (val & 1)
        machine_stop(m, STATUS_CRASH, "pvpanic");
}

void shutdown_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    static const char word[] = "Shutdown";
    uint8_t byte = (uint8_t)val;

    (void)port, (void)size;
    if (byte == word[m->shutdown_matched])
        m->shutdown_matched++;
    else
        m->shutdown_matched = byte == word[0];
    if (m->shutdown_matched == sizeof word - 1) {
        m->shutdown_matched = 0;
        machine_stop(m, STATUS_OK, "port 0x8900 shutdown");
    }
}

/* --- the CRT controller of a VGA that shows nothing --- */

/* Its registers keep what is written, no more: a kernel that asks for the cursor before it writes
 * at it (xv6) would take all-ones for a place outside the screen. The text memory is not there,
 * which is where Linux looks for a VGA. */
uint64_t crtc_read(struct machine *m, uint16_t port, unsigned size)
{
    (void)size;
    return port & 1 ? m->crtc.reg[m->crtc.index] : m->crtc.index;
}

void crtc_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)size;
    if (port & 1)
        m->crtc.reg[m->crtc.index] = (uint8_t)val;
    else
        m->crtc.index = val % sizeof m->crtc.reg;
}

/* --- debug output and nothing at all --- */

uint64_t debug_read(struct machine *m, uint16_t port, unsigned size)
{
    (void)m, (void)port, (void)size;
    return 0xe9;
}

void debug_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    uint8_t byte = (uint8_t)val;

    (void)port, (void)size;
    console_write(m, &byte, 1);
}
