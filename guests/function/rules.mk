# With glibc, as Debian's jansson wants it. Included by guests/guests.mk.
$(G)/function: CC_OF_GUEST = $(GLIBC_CC)
$(G)/function: LIBS_OF_GUEST = -l:libjansson.a
