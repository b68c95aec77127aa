# http_parser from Debian, by full path (with its folder in -L, glibc's libc.a would win over musl's).
# Included by guests/guests.mk.
$(G)/obj/http-echo/http-echo.o: CFLAGS_OF_GUEST = -idirafter /usr/include
$(G)/http-echo: LIBS_OF_GUEST = $(shell $(GLIBC_CC) -print-file-name=libhttp_parser.a)
