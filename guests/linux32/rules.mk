# A bzImage with the 32-bit entry alone. Included by guests/guests.mk.
$(B)/guests/linux32: guests/linux32/linux32.S
	@mkdir -p $(@D)
	$(Q)$(GLIBC_CC) -m32 -x assembler -c -o $@.o $<
	$(Q)ld -m elf_i386 -Ttext 0 -e _start --oformat binary -o $@ $@.o
GUESTS += $(B)/guests/linux32
