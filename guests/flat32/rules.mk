# 32-bit code on every engine, a multiboot image that QEMU boots too. Included by guests/guests.mk.
FLAT32_OBJ := $(patsubst guests/flat32/%,$(B)/guests/flat32.obj/%.o,\
                $(wildcard guests/flat32/*.c guests/flat32/*.S))
FLAT32_CFLAGS := -m32 -march=i686 -ffreestanding -fno-builtin -fno-pic -mgeneral-regs-only \
                 -fno-tree-loop-distribute-patterns
$(B)/guests/flat32.obj/%.o: guests/flat32/%
	@mkdir -p $(@D)
	$(Q)$(GLIBC_CC) $(GUEST_BASE) $(FLAT32_CFLAGS) -c -o $@ $<
# start.S has the multiboot header, which is to be in the first 8 KiB.
$(B)/guests/flat32: $(B)/guests/flat32.obj/start.S.o $(FLAT32_OBJ)
	$(Q)ld -m elf_i386 -Ttext 0x400000 -e _start --build-id=none --no-warn-rwx-segments -N -o $@ $^
GUESTS += $(B)/guests/flat32
-include $(FLAT32_OBJ:.o=.d)
