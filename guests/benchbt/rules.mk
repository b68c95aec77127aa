# The bt engine's benchmark: one set of objects, linked on the runtime (guests.mk: PROGRAMS) and as a
# program for Linux. Included by guests/guests.mk.
$(G)/benchbt-linux: $(benchbt_OBJ)
	$(Q)$(MUSL_CC) -static -no-pie -o $@ $^
GUESTS += $(G)/benchbt-linux

.PHONY: bench-bt
bench-bt: deps-test
	@tests/deps.sh xz-utils sqlite3 tcc python3 || echo "going on with the programs that are here"
	@$(MAKE) --no-print-directory -j$(JOBS) mayfly $(G)/benchbt $(G)/benchbt-linux $(B)/initrd.gz $(B)/timeit
	@tests/kernel.sh $(CACHE)
	@tests/bench_bt.sh
