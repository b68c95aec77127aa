# The differential test against the CPU: tests/fuzz.h says what it is made of.
FUZZ_OBJ := $(patsubst tests/%.c,$(B)/tobj/tests/%.o,$(wildcard tests/fuzz_*.c))
$(B)/fuzz_cpu: $(FUZZ_OBJ) $(B)/libtest.a
	$(SAY) LINK $@
	$(Q)$(GLIBC_CC) -o $@ $^ -lZydis -lpthread -Wl,--as-needed -ljansson
test-bins: $(B)/fuzz_cpu
