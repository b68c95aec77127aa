# Guests: included by the root Makefile. The runtime, static musl programs for it, and bare multiboot images
# that QEMU can boot too (tests/guests.sh uses it as their oracle).
G := $(B)/guests
GUEST_BASE := -std=gnu17 -I. -O2 -g -fno-pie -fcf-protection=none -fno-stack-protector \
              -fno-asynchronous-unwind-tables $(WARN) -MMD -MP

# --- the runtime ---
RUNTIME_OBJ := $(patsubst %,$(G)/runtime/%.o,$(basename $(notdir \
                 $(wildcard guests/runtime/*.c guests/runtime/*.S))))
RUNTIME_CFLAGS := -ffreestanding -fno-builtin -mno-red-zone -mgeneral-regs-only -mcmodel=kernel \
                  -fno-tree-loop-distribute-patterns
RUNTIME_LINK := -nostdlib -static -no-pie -Wl,-T,guests/runtime/runtime.ld -Wl,--build-id=none \
                -Wl,-z,max-page-size=4096 -s
$(G)/runtime/%.o: guests/runtime/%.c
	@mkdir -p $(@D)
	$(Q)$(GLIBC_CC) $(GUEST_BASE) $(NET_INCLUDES) $(RUNTIME_CFLAGS) -c -o $@ $<
$(G)/runtime/%.o: guests/runtime/%.S
	@mkdir -p $(@D)
	$(Q)$(GLIBC_CC) -I. -c -o $@ $<

# The library, with its linker script and mayfly-cc beside it: program + library = a bootable image.
$(G)/libmayfly.a: $(RUNTIME_OBJ)
	@rm -f $@
	$(Q)ar rcsD $@ $^
$(G)/mayfly.ld: guests/runtime/runtime.ld
	@cp $< $@
$(G)/mayfly-cc: guests/runtime/mayfly-cc $(G)/libmayfly.a $(G)/mayfly.ld
	@cp $< $@
$(G)/runtime/start.o $(G)/bare/start.o: guests/entry.inc
# Without a program: what mayfly puts below one.
$(G)/runtime.elf: $(G)/libmayfly.a guests/runtime/runtime.ld
	$(Q)$(GLIBC_CC) $(RUNTIME_LINK) -o $@.tmp $(G)/libmayfly.a
	@mv $@.tmp $@

# The same with the network: its objects, and lwIP's from Debian's source (net/lwip.sh). Where that
# cannot be had the image is an empty file, and mayfly says so when it would need it.
NET_OBJ := $(patsubst guests/runtime/%.c,$(G)/runtime/%.o,$(wildcard guests/runtime/net/*.c))
LWIP := $(CACHE)/lwip-2.1.3/src
LWIP_OBJ := $(patsubst %,$(G)/lwip/%.o,core/def core/inet_chksum core/ip core/mem core/memp \
              core/netif core/pbuf core/tcp core/tcp_in core/tcp_out core/udp \
              core/ipv4/dhcp core/ipv4/etharp core/ipv4/icmp core/ipv4/ip4 core/ipv4/ip4_addr \
              core/ipv4/ip4_frag netif/ethernet)
NET_CFLAGS := -Iguests/runtime/net -isystem $(LWIP)/include
$(NET_OBJ): NET_INCLUDES := $(NET_CFLAGS)
$(NET_OBJ): $(G)/lwip/source
# Empty: the source is not to be had.
$(G)/lwip/source: guests/runtime/net/lwip.sh
	@mkdir -p $(@D)
	$(SAY) LWIP $(LWIP)
	@if guests/runtime/net/lwip.sh $(CACHE); then echo $(LWIP) > $@; else : > $@; fi
# lwIP's warnings are not ours.
$(LWIP_OBJ): $(G)/lwip/%.o: $(G)/lwip/source guests/runtime/net/lwipopts.h guests/runtime/net/hooks.h \
    guests/runtime/net/arch/cc.h
	@mkdir -p $(@D)
	$(Q)$(GLIBC_CC) $(filter-out $(WARN),$(GUEST_BASE)) -w $(NET_CFLAGS) $(RUNTIME_CFLAGS) \
	    -fno-strict-aliasing -c -o $@ $(LWIP)/$*.c
$(G)/runtime_net.elf: $(G)/libmayfly.a guests/runtime/runtime.ld $(G)/lwip/source \
    $(wildcard guests/runtime/net/*.[ch] guests/runtime/net/arch/*.h)
	@if [ -s $(G)/lwip/source ]; then $(MAKE) --no-print-directory $(G)/runtime_net.linked && \
	    cp $(G)/runtime_net.linked $@; else : > $@; fi
$(G)/libmayfly_net.a: $(NET_OBJ) $(LWIP_OBJ)
	@rm -f $@
	$(Q)ar rcsD $@ $^
$(G)/runtime_net.linked: $(G)/libmayfly_net.a $(G)/libmayfly.a
	$(Q)$(GLIBC_CC) $(RUNTIME_LINK) -Wl,--wrap=ip4_frag -o $@ -Wl,--whole-archive $< \
	    -Wl,--no-whole-archive $(G)/libmayfly.a

# Programs: one folder each, every C file of it; ordinary static programs, with musl unless a rules.mk
# says otherwise (CC_OF_GUEST, CFLAGS_OF_GUEST, LIBS_OF_GUEST).
PROGRAMS := hello check benchbt kv http-echo function
define program
$(1)_OBJ := $$(patsubst guests/%.c,$(G)/obj/%.o,$$(wildcard guests/$(1)/*.c))
$(G)/obj/$(1)/%.o: guests/$(1)/%.c
	@mkdir -p $$(@D)
	$(Q)$$(or $$(CC_OF_GUEST),$(MUSL_CC)) $(GUEST_BASE) $$(CFLAGS_OF_GUEST) -c -o $$@ $$<
$(G)/$(1): $$($(1)_OBJ) guests/guests.mk
	$(Q)$$(or $$(CC_OF_GUEST),$(MUSL_CC)) -static -no-pie -Wl,--build-id=none -Wl,-z,norelro -s -o $$@.tmp \
	    $$(filter %.o,$$^) $$(LIBS_OF_GUEST)
	@mv $$@.tmp $$@
endef
$(foreach g,$(PROGRAMS),$(eval $(call program,$g)))
GUESTS := $(PROGRAMS:%=$(G)/%)
# Each as an image of its own.
$(G)/%.img: $(G)/% $(G)/mayfly-cc
	$(Q)$(G)/mayfly-cc --program $< -o $@
GUESTS += $(G)/hello.img

# --- bare guests: linked for 64-bit, the container made ELF32 ---
BARE := selftest timer smc wake nanobench
BARE_CFLAGS := $(GUEST_BASE) -I$(B)/gen -ffreestanding -fno-builtin -mno-red-zone \
               -fno-tree-loop-distribute-patterns -mgeneral-regs-only
BARE_OBJ := $(G)/bare/start.o $(G)/bare/bare.o $(G)/bare/region.o
$(G)/bare/%.o: guests/bare/%.c
	@mkdir -p $(@D)
	$(Q)$(GLIBC_CC) $(BARE_CFLAGS) -c -o $@ $<
$(G)/bare/%.o: guests/bare/%.S
	@mkdir -p $(@D)
	$(Q)$(GLIBC_CC) -I. -c -o $@ $<
define bare_guest
$(1)_OBJ := $$(patsubst guests/%,$(G)/obj/%.o,$$(basename $$(wildcard guests/$(1)/*.c guests/$(1)/*.S)))
$(G)/obj/$(1)/%.o: guests/$(1)/%.c
	@mkdir -p $$(@D)
	$(Q)$(GLIBC_CC) $(BARE_CFLAGS) -c -o $$@ $$<
$(G)/obj/$(1)/%.o: guests/$(1)/%.S
	@mkdir -p $$(@D)
	$(Q)$(GLIBC_CC) -I. -c -o $$@ $$<
$(G)/$(1): $(BARE_OBJ) $$($(1)_OBJ) guests/bare/bare.ld
	$(Q)$(GLIBC_CC) -nostdlib -static -no-pie -Wl,-T,guests/bare/bare.ld -Wl,--build-id=none \
	    -Wl,--no-warn-rwx-segments -Wl,-z,max-page-size=4096 -o $$@.elf64 $$(filter %.o,$$^)
	$(Q)objcopy -S -O elf32-i386 $$@.elf64 $$@
endef
$(foreach g,$(BARE),$(eval $(call bare_guest,$g)))
GUESTS += $(BARE:%=$(G)/%)

# What the self-test's sums must be: the same code on the CPU that builds.
$(G)/sums: guests/selftest/sums.c guests/selftest/compute.c guests/selftest/flow.c \
    guests/selftest/vector.c guests/selftest/compute.h
	@mkdir -p $(@D)
	$(Q)$(GLIBC_CC) $(filter-out -MMD -MP,$(GUEST_BASE)) -no-pie -mno-red-zone -mgeneral-regs-only \
	    -DSELFTEST_HOSTED -o $@ $(filter %.c,$^)
$(B)/gen/selftest_sums.h: $(G)/sums
	@mkdir -p $(@D)
	$(Q)$< > $@.tmp && mv $@.tmp $@
$(G)/obj/selftest/main.o: $(B)/gen/selftest_sums.h

include $(wildcard guests/*/rules.mk)
