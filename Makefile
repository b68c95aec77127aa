# mayfly. `make` builds ./mayfly; `make run`, `make test`, `make bench` do what README says.
SHELL := /bin/bash
B := build
MUSL_CC ?= musl-gcc
GLIBC_CC ?= gcc

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
BASE := -std=gnu17 -D_GNU_SOURCE -I. -I$(B)/gen -O2 -g -fno-strict-aliasing -fcf-protection=none \
        -fno-stack-protector -fno-tree-loop-distribute-patterns $(WARN) -MMD -MP
# vcpu/ and paging/ run while the guest's vector state is live in the host's registers.
GPR_ONLY := -mgeneral-regs-only -mmemcpy-strategy=rep_8byte:-1:noalign \
            -mmemset-strategy=rep_8byte:-1:noalign
KHDR := -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu

ENGINE_SRC := $(wildcard paging/*.c vcpu/*.c vcpu/bt/*.c vcpu/kvm/*.c)
HOST_SRC := $(wildcard virtio/*.c monitor/*.c seccomp/*.c)
ENGINE_ASM := $(wildcard vcpu/*.S vcpu/bt/*.S)
OBJ := $(ENGINE_SRC:%.c=$(B)/obj/%.o) $(HOST_SRC:%.c=$(B)/obj/%.o) $(ENGINE_ASM:%.S=$(B)/obj/%.o)
# The same sources against glibc, for Criterion and the sanitizers.
TOBJ := $(filter-out $(B)/tobj/monitor/main.o,$(OBJ:$(B)/obj/%=$(B)/tobj/%))

.PHONY: all
all: mayfly

mayfly: $(OBJ)
	$(MUSL_CC) -static -no-pie -o $@ $^ -L$(B)/lib $(LIBS)

$(B)/obj/vcpu/%.o $(B)/obj/paging/%.o: CF_EXTRA := $(GPR_ONLY)
$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(MUSL_CC) $(BASE) $(KHDR) -fno-pie $(CF_EXTRA) -c -o $@ $<
$(B)/obj/vcpu/%.o: vcpu/%.c
	@mkdir -p $(@D)
	$(MUSL_CC) $(BASE) $(KHDR) -fno-pie $(GPR_ONLY) -c -o $@ $<
$(B)/obj/paging/%.o: paging/%.c
	@mkdir -p $(@D)
	$(MUSL_CC) $(BASE) $(KHDR) -fno-pie $(GPR_ONLY) -c -o $@ $<
$(B)/obj/%.o: %.S
	@mkdir -p $(@D)
	$(MUSL_CC) $(BASE) -fno-pie -c -o $@ $<

$(B)/tobj/vcpu/%.o: vcpu/%.c
	@mkdir -p $(@D)
	$(GLIBC_CC) $(BASE) $(GPR_ONLY) -U_FORTIFY_SOURCE -c -o $@ $<
$(B)/tobj/paging/%.o: paging/%.c
	@mkdir -p $(@D)
	$(GLIBC_CC) $(BASE) $(GPR_ONLY) -U_FORTIFY_SOURCE -c -o $@ $<
$(B)/tobj/%.o: %.c
	@mkdir -p $(@D)
	$(GLIBC_CC) $(BASE) -c -o $@ $<
$(B)/tobj/%.o: %.S
	@mkdir -p $(@D)
	$(GLIBC_CC) $(BASE) -c -o $@ $<
$(B)/libtest.a: $(TOBJ)
	@rm -f $@
	ar rcs $@ $^

# Units: tests/unit_*.c, one Criterion program each.
UNITS := $(patsubst tests/%.c,$(B)/%,$(wildcard tests/unit_*.c))
$(B)/unit_%: tests/unit_%.c $(B)/libtest.a
	$(GLIBC_CC) $(BASE) -o $@ $< $(B)/libtest.a -lcriterion -lZydis -lpthread

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.PHONY: clean
clean:
	rm -rf $(B) mayfly
