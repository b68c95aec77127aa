/*
 * A small emitter of AML (ACPI 6.4 chapter 20), enough to name devices and give them resources.
 * Blocks nest: their PkgLength is written when they are closed. What does not fit sets full.
 */
#ifndef MONITOR_AML_H
#define MONITOR_AML_H

#include <stdbool.h>
#include <stdint.h>

#define AML_DEPTH 8u

struct aml {
    uint8_t *buf;
    uint32_t len, cap;
    uint32_t open[AML_DEPTH]; /* where the PkgLength of each open block goes */
    unsigned depth;
    bool full; /* ran out of room, or nested too deep: the result is no good */
};

void aml_init(struct aml *a, uint8_t *buf, uint32_t cap);

/* Blocks. Names have four characters; a scope may begin with '\\'. */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
void aml_end(struct aml *a);

/* Name (name, value). aml_name() alone: any one object must follow. */
void aml_name(struct aml *a, const char *name);
void aml_name_int(struct aml *a, const char *name, uint64_t val);
void aml_name_string(struct aml *a, const char *name, const char *val);
void aml_name_eisa(struct aml *a, const char *name, const char *id); /* "PNP0501" */

void aml_int(struct aml *a, uint64_t val);
void aml_package(struct aml *a, uint8_t count); /* its elements follow, then aml_end() */

/* Name (_CRS, ResourceTemplate () { ... }): resources, then aml_crs_end(). */
void aml_crs(struct aml *a);
void aml_crs_end(struct aml *a);
void aml_res_io(struct aml *a, uint16_t port, uint8_t len);
void aml_res_irq(struct aml *a, uint8_t irq); /* ISA: edge, active high */
void aml_res_memory32(struct aml *a, uint32_t base, uint32_t len);
void aml_res_interrupt(struct aml *a, uint32_t gsi); /* edge, active high, exclusive */

#endif
