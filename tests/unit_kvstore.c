/* guests/kv's store on damaged disks: whatever is wrong with the bytes, it opens to a prefix of
 * what was written, or not at all, and what is put then is there at the next start. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>
#define fdatasync(fd) ((void)(fd), 0) /* nobody pulls a plug here */
#include "guests/kv/store.c"

#define SIZE 131072
static char image[SIZE], value[VALUE_MAX];
static char path[64];

static void blank_disk(void)
{
    int fd;

    snprintf(path, sizeof path, "/tmp/mayfly-kv-XXXXXX");
    fd = mkstemp(path);
    cr_assert(fd >= 0 && !ftruncate(fd, SIZE));
    close(fd);
}

static struct store *opened(void)
{
    struct store *s;

    cr_assert_eq(store_open(path, false, &s), 0);
    return s;
}

static void write_some(unsigned *seed)
{
    struct store *s = opened();
    char key[20];

    for (int i = rand_r(seed) % 60; i > 0; i--) {
        snprintf(key, sizeof key, "k%d", rand_r(seed) % 20);
        if (rand_r(seed) % 5)
            store_put(s, key, value, (uint32_t)rand_r(seed) % 3000);
        else
            store_delete(s, key);
    }
    store_close(s);
}

/* Most in the first records, some in the headers. */
static void damage(unsigned *seed)
{
    int fd = open(path, O_RDWR);

    cr_assert_eq(pread(fd, image, SIZE, 0), SIZE);
    for (int i = rand_r(seed) % 6; i >= 0; i--)
        image[rand_r(seed) % 3 ? LOG + rand_r(seed) % 60000 : rand_r(seed) % 1100] =
            (char)rand_r(seed);
    cr_assert_eq(pwrite(fd, image, SIZE, 0), SIZE);
    close(fd);
}

Test(kvstore, damaged)
{
    unsigned refused = 0;

    for (unsigned round = 0; round < 300; round++) {
        unsigned seed = round;
        struct store *s;
        size_t count;

        blank_disk();
        write_some(&seed);
        damage(&seed);
        if (store_open(path, false, &s)) {
            refused++;
        } else {
            for (size_t i = 0; i < s->count; i++)
                cr_assert(store_get(s, s->items[i]->key, value) >= 0, "round %u", round);
            cr_assert_eq(store_put(s, "new", "x", 1), 0, "round %u", round);
            count = store_count(s);
            store_close(s);
            s = opened();
            cr_assert_eq(store_count(s), count, "round %u", round);
            cr_assert_eq(store_get(s, "new", value), 1, "round %u", round);
            store_close(s);
        }
        unlink(path);
    }
    cr_assert(refused < 100, "%u", refused);
}

/* What lay behind a damaged record does not come back when another of its size takes its place. */
Test(kvstore, stale)
{
    struct store *s;

    blank_disk();
    s = opened();
    for (const char *k = "abcd"; *k; k++)
        cr_assert_eq(store_put(s, (char[2]){*k}, "value", 5), 0);
    uint64_t at = s->items[1]->at;

    store_close(s);
    int fd = open(path, O_RDWR);

    cr_assert_eq(pwrite(fd, "?", 1, (off_t)at + 26), 1);
    close(fd);
    s = opened();
    cr_assert_eq(store_count(s), 1);
    cr_assert_eq(store_put(s, "x", "value", 5), 0);
    store_close(s);
    s = opened();
    cr_assert_eq(store_count(s), 2);
    cr_assert_eq(store_get(s, "c", value), -ENOENT);
    store_close(s);
    unlink(path);
}

Test(kvstore, limits)
{
    char key[KEY_MAX + 2];
    struct store *s;

    blank_disk();
    s = opened();
    memset(key, 'k', sizeof key);
    key[KEY_MAX + 1] = 0;
    cr_assert_eq(store_put(s, key, "", 0), -EINVAL);
    key[KEY_MAX] = 0;
    cr_assert_eq(store_put(s, "", "", 0), -EINVAL);
    cr_assert_eq(store_put(s, "v", value, VALUE_MAX + 1), -EINVAL);
    cr_assert_eq(store_put(s, "v", value, VALUE_MAX), -ENOSPC);
    cr_assert_eq(store_put(s, key, value, 60000), 0);
    cr_assert_eq(store_put(s, key, value, 1000), 0); /* the old one goes */
    cr_assert_eq(store_get(s, key, value), 1000);
    cr_assert_eq(store_delete(s, key), 0);
    cr_assert_eq(store_delete(s, key), -ENOENT);
    cr_assert_eq(store_count(s), 0);
    store_close(s);
    unlink(path);
}
