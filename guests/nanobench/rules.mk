# The nanobenchmarks: a bare guest (guests.mk: BARE) and what a process on the host can do of them.
# Included by guests/guests.mk.
$(G)/nanobench-host: guests/nanobench/host/native.c $(G)/obj/nanobench/ops.o guests/nanobench/nano.h
	$(Q)$(GLIBC_CC) $(filter-out -MMD -MP,$(GUEST_BASE)) -no-pie -o $@ $(filter %.c %.o,$^)
GUESTS += $(G)/nanobench-host

.PHONY: nanobench
nanobench: deps-test
	@$(MAKE) --no-print-directory -j$(JOBS) mayfly $(G)/nanobench $(G)/nanobench-host
	@tests/nanobench.sh
