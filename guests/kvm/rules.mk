# The kvm engine's guests: flat multiboot 1 images that every engine runs. Included by
# guests/guests.mk.
KVM_GUESTS := $(patsubst guests/kvm/%.S,$(B)/guests/kvm/%,$(wildcard guests/kvm/*.S))
$(B)/guests/kvm/%.o: guests/kvm/%.S guests/kvm/common.inc
	@mkdir -p $(@D)
	$(GLIBC_CC) -m32 -x assembler -Wa,-Iguests/kvm -c -o $@ $<
$(KVM_GUESTS): %: %.o
	ld -m elf_i386 -Ttext 0x100000 -e _start --build-id=none --no-warn-rwx-segments -N -o $@ $<
GUESTS += $(KVM_GUESTS)
$(foreach u,$(wildcard tests/unit_kvm*.c),\
  $(B)/$(basename $(notdir $u)) $(B)/asan/$(basename $(notdir $u))): | $(KVM_GUESTS)
