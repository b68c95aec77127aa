/* The function of this guest, apart from where its requests come from. */
#ifndef GUESTS_FUNCTION_FUNCTION_H
#define GUESTS_FUNCTION_FUNCTION_H

#include <stdbool.h>
#include <stddef.h>

/* A request: {"name": STRING, "numbers": [NUMBER...]}, either may lack. *answer: JSON without a
 * newline, to be freed, NULL when there is no memory. false: it says {"error": ...}. */
bool handle(const char *request, size_t len, char **answer);

#endif
