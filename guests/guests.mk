# Guests: included by the root Makefile. Musl programs on the runtime, and bare multiboot images
# that QEMU can boot too (tests/guests.sh uses it as their oracle).
G := $(B)/guests
GUEST_BASE := -std=gnu17 -I. -O2 -g -fno-pie -fcf-protection=none -fno-stack-protector \
              -fno-asynchronous-unwind-tables $(WARN) -MMD -MP

# --- the runtime ---
RUNTIME_OBJ := $(patsubst %,$(G)/runtime/%.o,$(basename $(notdir \
                 $(wildcard guests/runtime/*.c guests/runtime/*.S))))
$(G)/runtime/%.o: guests/runtime/%.c
	@mkdir -p $(@D)
	$(GLIBC_CC) $(GUEST_BASE) -ffreestanding -fno-builtin -mno-red-zone -mgeneral-regs-only \
	    -fno-tree-loop-distribute-patterns -c -o $@ $<
$(G)/runtime/%.o: guests/runtime/%.S
	@mkdir -p $(@D)
	$(GLIBC_CC) -I. -c -o $@ $<

PROGRAMS := hello
$(G)/%.prog.o: guests/hello/%.c
	@mkdir -p $(@D)
	$(MUSL_CC) $(GUEST_BASE) -c -o $@ $<
$(PROGRAMS:%=$(G)/%): $(G)/%: $(G)/%.prog.o $(RUNTIME_OBJ) guests/runtime/runtime.ld
	$(MUSL_CC) -static -no-pie -nostartfiles -Wl,-T,guests/runtime/runtime.ld \
	    -Wl,--build-id=none -Wl,-z,norelro -Wl,--no-warn-rwx-segments -s -o $@ \
	    $(filter %.o,$^)

GUESTS := $(PROGRAMS:%=$(G)/%)
