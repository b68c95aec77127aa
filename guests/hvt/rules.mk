# Guests for the hvt interface: one program, three manifests. Included by guests/guests.mk.
HVT_OBJ := $(patsubst guests/hvt/%.c,$(G)/obj/hvt/%.o,$(filter-out %/manifest.c,$(wildcard guests/hvt/*.c))) \
           $(G)/obj/hvt/start.o
$(G)/obj/hvt/%.o: guests/hvt/%.c
	@mkdir -p $(@D)
	$(Q)$(GLIBC_CC) $(BARE_CFLAGS) -c -o $@ $<
$(G)/obj/hvt/%.o: guests/hvt/%.S
	@mkdir -p $(@D)
	$(Q)$(GLIBC_CC) -I. -c -o $@ $<
define hvt_guest
$(G)/obj/hvt/$(1)-manifest.o: guests/hvt/manifest.c guests/hvt/abi.h
	@mkdir -p $$(@D)
	$(Q)$(GLIBC_CC) $(BARE_CFLAGS) -DDISKS=$(2) -DNETS=$(3) -c -o $$@ $$<
$(G)/hvt_$(1): $(HVT_OBJ) $(G)/obj/hvt/$(1)-manifest.o guests/hvt/hvt.ld
	$(Q)$(GLIBC_CC) -nostdlib -static -no-pie -Wl,-T,guests/hvt/hvt.ld -Wl,--build-id=none \
	    -Wl,-z,max-page-size=4096 -o $$@ $$(filter %.o,$$^)
GUESTS += $(G)/hvt_$(1)
endef
$(eval $(call hvt_guest,plain,0,0))
$(eval $(call hvt_guest,disk,1,0))
$(eval $(call hvt_guest,both,2,2))
$(eval $(call hvt_guest,net,0,1))
