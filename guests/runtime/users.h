/* Users and groups of the program (users.c). */
#ifndef GUESTS_RUNTIME_USERS_H
#define GUESTS_RUNTIME_USERS_H

#include "guests/runtime/runtime.h"

struct ids {
    uint32_t real, effective, saved, file; /* file: whose a new file is */
};
extern struct ids user, group;
/* The line of /proc/self/status about further groups: its length. The capabilities that hold. */
size_t users_list(char *out, size_t size);
uint64_t users_capabilities(void);
/* PR_SET_KEEPCAPS: capabilities outlive the change from root; what it is now. */
bool users_keep_caps(bool set, bool keep);

#endif
