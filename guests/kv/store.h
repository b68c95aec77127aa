/*
 * A key-value store on a disk (or a file of fixed size): an append-only log and an index of it in
 * memory. What store_put() or store_delete() returned 0 for is on the disk, whatever ends the
 * machine afterwards.
 *
 *   0     two headers of a sector, written in turn: which half holds the log, its first number
 *   4096  first half | second half
 *
 * A record has a checksum, a number one above its predecessor's, and the epoch of the run that
 * wrote it, which never falls: the first that does not fit ends the log, and what an earlier run
 * left behind that place is not taken for its continuation. When a half is full the live records go
 * to the other one, then a header says so.
 *
 * Functions return 0 or a negative errno.
 */
#ifndef GUESTS_KV_STORE_H
#define GUESTS_KV_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_MAX   255u
#define VALUE_MAX 65536u

struct store;

/* A blank disk becomes an empty store; so does any with format. -EINVAL: too small; -EEXIST:
 * something else is on it. */
int store_open(const char *path, bool format, struct store **out);
void store_close(struct store *s);
/* Keys are strings of 1 to KEY_MAX bytes. -ENOSPC: full even without what was overwritten. */
int store_put(struct store *s, const char *key, const void *value, uint32_t len);
/* The value, at most VALUE_MAX bytes: its length, or -ENOENT; -EIO: the disk gave something else.
 */
int store_get(struct store *s, const char *key, void *value);
int store_delete(struct store *s, const char *key);
/* In the order of the keys. */
void store_list(struct store *s, void (*each)(const char *key, uint32_t len, void *to), void *to);
size_t store_count(const struct store *s);

#endif
