/* What the function does: JSON in, JSON out. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "guests/function/function.h"

static json_t *sum(const json_t *numbers)
{
    double total = 0, most = 0;
    json_t *n;
    size_t i;

    json_array_foreach(numbers, i, n)
    {
        double v = json_number_value(n);

        if (!json_is_number(n))
            return NULL;
        total += v;
        most = i && most > v ? most : v;
    }
    return json_pack("{s:I, s:f, s:f}", "count", (json_int_t)i, "sum", total, "max", most);
}

bool handle(const char *request, size_t len, char **answer)
{
    json_error_t why;
    json_t *in = json_loadb(request, len, 0, &why), *out = NULL;
    const char *name = NULL;
    const json_t *numbers = NULL;

    if (!in)
        out = json_pack("{s:s+}", "error", "no JSON: ", why.text);
    else if (json_unpack_ex(in, &why, 0, "{s?:s, s?:o!}", "name", &name, "numbers", &numbers))
        out = json_pack("{s:s}", "error", why.text);
    else if (numbers && (!json_is_array(numbers) || !(out = sum(numbers))))
        out = json_pack("{s:s}", "error", "numbers is no array of numbers");
    else if (!out)
        out = json_object();
    if (out && name && !json_object_get(out, "error"))
        json_object_set_new(out, "greeting", json_sprintf("hello, %s", name));
    *answer = out ? json_dumps(out, JSON_COMPACT) : NULL;
    bool good = out && !json_object_get(out, "error");

    json_decref(in);
    json_decref(out);
    return good;
}
