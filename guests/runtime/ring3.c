/*
 * A KVM without VMX or SVM runs CPL 3 on the processor as it is and interprets CPL 0. The program
 * is at native speed there; of the runtime it asks two things:
 *
 *   SYSCALL goes to LSTAR and stays at CPL 3, where it may not fetch. That page fault is the call.
 *   XSAVE and XRSTOR are not interpreted. They run at CPL 3, on two pages where the program can
 * have none: the instruction with a SYSCALL behind it, and the area it works on.
 */
#include "guests/runtime/process.h"
#include "guests/runtime/vm.h"

#define CODE_AT (KMAP + (1ull << 39))
#define AREA_AT (CODE_AT + PAGE)

/* --- start.S --- */
extern const char ring3_code[], ring3_restore[], ring3_code_end[];
/* Run entry at CPL 3 with RDI = area and EDX:EAX = mask, traps coming to this stack by *rsp0.
 * Returns when ring3_return() is called. */
void ring3_run(uint64_t entry, uint64_t area, uint64_t mask, void *rsp0);
_Noreturn void ring3_return(void);

static uint64_t area; /* physical */
static bool inside;

static void make_pages(void)
{
    uint64_t code = frame_alloc(), *e = pages_entry(CODE_AT, true);

    area = frame_alloc();
    if (!code || !area || !e)
        panic("mayfly: too little memory for this program: give more with -m");
    copy(kva(code), ring3_code, (size_t)(ring3_code_end - ring3_code));
    e[0] = code | PTE_P | PTE_U | PTE_A;
    e[1] = area | PTE_P | PTE_U | PTE_A | PTE_W | PTE_D | PTE_NX;
}

static void run(const char *code, void *rsp0)
{
    inside = true;
    ring3_run(CODE_AT + (uint64_t)(code - ring3_code), AREA_AT, fpu_mask, rsp0);
}

void ring3_fpu_save(void *to, void *rsp0)
{
    if (!area)
        make_pages();
    /* XSAVE leaves the header's other words alone. */
    fill((char *)kva(area) + 512, 0, 64);
    run(ring3_code, rsp0);
    copy(to, kva(area), fpu_bytes);
}

void ring3_fpu_load(const void *from, void *rsp0)
{
    if (!area)
        make_pages();
    copy(kva(area), from, fpu_bytes);
    run(ring3_restore, rsp0);
}

bool ring3_syscall(struct regs *r, uint64_t fault)
{
    if (fault != (uintptr_t)syscall_entry || r->rip != fault)
        return false;
    if (inside) {
        inside = false;
        ring3_return();
    }
    boot.flags |= MAYFLY_BOOT_RING3;
    r->rip = r->rcx;
    r->rflags = r->r11;
    r->vector = (uint64_t)-1;
    r->error = r->rax;
    syscall_enter(r);
    return true;
}
