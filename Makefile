# mayfly. `make` builds ./mayfly; `make run`, `make test`, `make bench` do what README says.
SHELL := /bin/bash
VERSION := 0.1.0
B := build
CACHE := .cache
MUSL_CC ?= musl-gcc
GLIBC_CC ?= gcc
PREFIX ?= /usr/local
DESTDIR ?=
# One short line a step; V=1 shows the commands.
Q := $(if $(V),,@)
SAY := @$(if $(V),:,echo)

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
BASE := -std=gnu17 -D_GNU_SOURCE -DMAYFLY_VERSION='"$(VERSION)"' -I. -I$(B)/gen -O2 -g \
        -fno-strict-aliasing -fcf-protection=none -fno-stack-protector \
        -fno-tree-loop-distribute-patterns $(WARN) -MMD -MP
# vcpu/ and paging/ run while the guest's vector state is live in the host's registers.
GPR_ONLY := -mgeneral-regs-only -mmemcpy-strategy=rep_8byte:-1:noalign \
            -mmemset-strategy=rep_8byte:-1:noalign
# musl's own headers win; the kernel's (linux/kvm.h ...) and the libraries' come after them.
KHDR := -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu
# In a test program libc may use vector registers anywhere, so vector state is put away at once.
TEST_DEFS := -DMAYFLY_FPU_EAGER -U_FORTIFY_SOURCE
# By full path: with their folder in -L, glibc's libc.a would win over musl's.
LIBS = $(wildcard $(foreach l,libjansson.a liburing.a,$(shell $(GLIBC_CC) -print-file-name=$l)))

ENGINE_SRC := $(wildcard paging/*.c vcpu/*.c vcpu/bt/*.c vcpu/kvm/*.c)
HOST_SRC := $(filter-out seccomp/rules.c,$(wildcard virtio/*.c monitor/*.c seccomp/*.c))
ASM := $(wildcard vcpu/*.S vcpu/bt/*.S monitor/*.S)
OBJ := $(ENGINE_SRC:%.c=$(B)/obj/%.o) $(HOST_SRC:%.c=$(B)/obj/%.o) $(ASM:%.S=$(B)/obj/%.o)
# The same sources against glibc, for Criterion and the sanitizers.
TOBJ := $(filter-out $(B)/tobj/monitor/main.o,$(OBJ:$(B)/obj/%=$(B)/tobj/%))
AOBJ := $(TOBJ:$(B)/tobj/%=$(B)/asan/%)

.PHONY: all
all: mayfly

mayfly: $(OBJ)
	$(SAY) LINK $@
	$(Q)$(MUSL_CC) -static -no-pie -o $@.tmp $^ $(LIBS)
	@mv $@.tmp $@

MUSL_OBJ = $(MUSL_CC) $(BASE) $(KHDR) -fno-pie
$(B)/obj/vcpu/%.o: vcpu/%.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(MUSL_OBJ) $(GPR_ONLY) -c -o $@ $<
$(B)/obj/paging/%.o: paging/%.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(MUSL_OBJ) $(GPR_ONLY) -c -o $@ $<
$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(MUSL_OBJ) -c -o $@ $<
$(B)/obj/%.o: %.S
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(MUSL_OBJ) -c -o $@ $<

# Guests poll ports; what is answered in bus.c needs no vector state put away.
$(B)/obj/monitor/bus.o $(B)/tobj/monitor/bus.o $(B)/asan/monitor/bus.o: BASE += $(GPR_ONLY)

GLIBC_OBJ = $(GLIBC_CC) $(BASE) $(TEST_DEFS)
$(B)/tobj/vcpu/%.o: vcpu/%.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(GLIBC_OBJ) $(GPR_ONLY) -c -o $@ $<
$(B)/tobj/paging/%.o: paging/%.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(GLIBC_OBJ) $(GPR_ONLY) -c -o $@ $<
$(B)/tobj/%.o: %.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(GLIBC_OBJ) -c -o $@ $<
$(B)/tobj/%.o: %.S
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(GLIBC_OBJ) -c -o $@ $<
$(B)/libtest.a: $(TOBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^

# --- seccomp: the rules are compiled to BPF here, mayfly only installs them -----------------------
$(B)/seccomp_rules: seccomp/rules.c seccomp/seccomp.h
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(GLIBC_CC) -std=gnu17 -D_GNU_SOURCE -O2 $(WARN) -I. -o $@ $< -lseccomp
$(B)/gen/seccomp_filters.h: $(B)/seccomp_rules
	@mkdir -p $(@D)
	$(SAY) GEN $@
	$(Q)$< > $@.tmp && mv $@.tmp $@
$(B)/obj/seccomp/install.o $(B)/tobj/seccomp/install.o $(B)/asan/seccomp/install.o: \
    $(B)/gen/seccomp_filters.h

# --- names of Linux's system calls, for -v --------------------------------------------------------
$(B)/gen/syscall_names.h:
	@mkdir -p $(@D)
	$(SAY) GEN $@
	$(Q)echo '#include <asm/unistd.h>' | $(GLIBC_CC) -E -dM - | \
	    sed -nE 's/^#define __NR_([a-z0-9_]+) ([0-9]+)$$/[\2] = "\1",/p' > $@.tmp && mv $@.tmp $@
$(B)/obj/monitor/hypercall.o $(B)/tobj/monitor/hypercall.o $(B)/asan/monitor/hypercall.o: \
    $(B)/gen/syscall_names.h

# --- guests (guests/README.md) --------------------------------------------------------------------
include $(wildcard guests/guests.mk)
$(B)/obj/monitor/embed.o $(B)/tobj/monitor/embed.o $(B)/asan/monitor/embed.o: \
    $(B)/guests/hello $(B)/guests/runtime.elf $(B)/guests/runtime_net.elf

# --- unit tests: tests/unit_*.c, one Criterion program each ---------------------------------------
UNIT_LIBS := -Wl,--allow-multiple-definition -lcriterion -lZydis -lpthread -Wl,--as-needed -ljansson -l:liburing.a
UNITS := $(patsubst tests/%.c,$(B)/%,$(wildcard tests/unit_*.c))
# A test may stand in for a function of the tree: its own definition comes first.
$(B)/unit_%: tests/unit_%.c $(B)/libtest.a
	$(SAY) CC $@
	$(Q)$(GLIBC_OBJ) -o $@ $< $(B)/libtest.a $(UNIT_LIBS)

# The same under AddressSanitizer and UBSan. Translated code itself is not instrumented.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
$(B)/asan/vcpu/%.o: vcpu/%.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(GLIBC_OBJ) $(SANITIZE) $(GPR_ONLY) -c -o $@ $<
$(B)/asan/paging/%.o: paging/%.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(GLIBC_OBJ) $(SANITIZE) $(GPR_ONLY) -c -o $@ $<
$(B)/asan/%.o: %.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(GLIBC_OBJ) $(SANITIZE) -c -o $@ $<
$(B)/asan/%.o: %.S
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(GLIBC_OBJ) -c -o $@ $<
$(B)/asan/libtest.a: $(AOBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^
$(B)/asan/unit_%: tests/unit_%.c $(B)/asan/libtest.a
	$(SAY) CC $@
	$(Q)$(GLIBC_OBJ) $(SANITIZE) -o $@ $< $(B)/asan/libtest.a $(UNIT_LIBS)
AUNITS := $(UNITS:$(B)/%=$(B)/asan/%)

-include tests/fuzz.mk

# --- what a fresh Debian machine lacks ------------------------------------------------------------
BUILD_PKGS := gcc libc6-dev linux-libc-dev musl-tools libseccomp-dev libjansson-dev liburing-dev \
              xz-utils
TEST_PKGS := $(BUILD_PKGS) libcriterion-dev libzydis-dev libhttp-parser-dev busybox-static cpio lz4 \
             passt iproute2 bash-static liblua5.4-dev libsqlite3-dev fio gdb
.PHONY: deps deps-test
deps:
	@tests/deps.sh $(BUILD_PKGS)
deps-test:
	@tests/deps.sh $(TEST_PKGS)

# --- what people type -----------------------------------------------------------------------------
.PHONY: run test bench fuzz asan install format-check lint clean test-bins
run: deps
	@$(MAKE) --no-print-directory mayfly
	./mayfly run --stats hello

JOBS := $(shell nproc 2>/dev/null || echo 1)
test: deps-test
	@$(MAKE) --no-print-directory -j$(JOBS) test-bins
	@tests/kernel.sh $(CACHE)
	@tests/run.sh $(UNITS)
test-bins: mayfly $(UNITS) $(GUESTS) $(B)/initrd.gz $(B)/timeit $(B)/launch

bench: deps-test
	@$(MAKE) --no-print-directory -j$(JOBS) mayfly $(GUESTS) $(B)/initrd.gz $(B)/timeit
	@tests/kernel.sh $(CACHE)
	@tests/bench.sh
	@tests/bench_blk.sh
	@tests/bench_fs.sh
	@tests/bench_net.sh

.PHONY: bench-launch
bench-launch: deps-test
	@$(MAKE) --no-print-directory -j$(JOBS) mayfly $(GUESTS) $(B)/launch $(B)/kvm_floor
	@tests/bench_launch.sh

.PHONY: bench-smp
bench-smp: deps-test
	@$(MAKE) --no-print-directory -j$(JOBS) mayfly $(B)/initrd.gz $(B)/timeit
	@tests/kernel.sh $(CACHE)
	@tests/bench_smp.sh

.PHONY: soak
soak: deps-test
	@$(MAKE) --no-print-directory -j$(JOBS) mayfly $(B)/launch
	@N=10000 D=300 tests/soak.sh

fuzz: deps-test
	@$(MAKE) --no-print-directory -j$(JOBS) mayfly $(UNITS) $(B)/fuzz_cpu
	@tests/fuzz.sh

asan: deps-test
	@$(MAKE) --no-print-directory -j$(JOBS) $(AUNITS)
	@LSAN_OPTIONS=suppressions=tests/lsan.supp:print_suppressions=0 MAYFLY_SANITIZED=1 tests/run.sh --units-only $(AUNITS)

$(B)/timeit: tests/timeit.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(GLIBC_CC) $(BASE) -o $@ $<
# Small and static: a launch counts the resident set of who spawned it.
$(B)/kvm_floor: seccomp/install.c $(B)/gen/seccomp_filters.h
$(B)/launch $(B)/kvm_floor: $(B)/%: tests/%.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(MUSL_CC) $(BASE) $(KHDR) -I$(B)/gen -static -o $@ $(filter %.c,$^)
$(B)/initrd.gz: tests/initrd.sh tests/init
	@mkdir -p $(@D)
	tests/initrd.sh $@

install: mayfly $(G)/mayfly-cc
	install -D -s -m 755 mayfly $(DESTDIR)$(PREFIX)/bin/mayfly
	install -D -m 755 $(G)/mayfly-cc $(DESTDIR)$(PREFIX)/bin/mayfly-cc
	install -D -m 644 guests/runtime/bootblock.h $(DESTDIR)$(PREFIX)/include/mayfly/bootblock.h
	install -D -m 644 $(G)/mayfly.ld $(DESTDIR)$(PREFIX)/lib/mayfly/mayfly.ld
	install -D -m 644 $(G)/libmayfly.a $(DESTDIR)$(PREFIX)/lib/mayfly/libmayfly.a
	if [ -e $(G)/libmayfly_net.a ]; then \
	    install -D -m 644 $(G)/libmayfly_net.a $(DESTDIR)$(PREFIX)/lib/mayfly/libmayfly_net.a; fi
	strip -g $(DESTDIR)$(PREFIX)/lib/mayfly/*.a

SOURCES = $(shell git ls-files '*.c' '*.h')
format-check:
	clang-format --dry-run -Werror $(SOURCES)
# cppcheck's own data flow takes "passed by address" for "read", and knows no linker symbols.
CPPCHECK_NOT := missingIncludeSystem uninitvar ctuuninitvar legacyUninitvar subtractPointers comparePointers \
                arrayIndexOutOfBoundsCond
lint: $(B)/gen/seccomp_filters.h $(B)/gen/syscall_names.h
	cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,portability \
	    $(CPPCHECK_NOT:%=--suppress=%) -I. -I$(B)/gen -D_GNU_SOURCE -D__x86_64__ \
	    -DMAYFLY_VERSION='""' $(ENGINE_SRC) $(HOST_SRC)
	clang-tidy --quiet $(ENGINE_SRC) $(HOST_SRC) -- -std=gnu17 -D_GNU_SOURCE -I. -I$(B)/gen \
	    -DMAYFLY_VERSION='""'

-include $(shell find $(B) -name '*.d' 2>/dev/null)
clean:
	rm -rf $(B) mayfly
