/* sqlite DATABASE: runs the SQL of stdin, prints the rows. */
#include <sqlite3.h>
#include <stdio.h>

static int row(void *arg, int n, char **values, char **names)
{
    (void)arg, (void)names;
    for (int i = 0; i < n; i++)
        printf("%s%s", i ? "|" : "", values[i] ? values[i] : "NULL");
    puts("");
    return 0;
}

int main(int argc, char **argv)
{
    static char sql[1 << 16];
    sqlite3 *db;
    char *why = NULL;
    size_t n = fread(sql, 1, sizeof sql - 1, stdin);

    sql[n] = 0;
    if (argc < 2 || sqlite3_open(argv[1], &db)) {
        puts("cannot open it");
        return 99;
    }
    int err = sqlite3_exec(db, sql, row, NULL, &why);

    if (err)
        printf("%d: %s\n", err, why);
    sqlite3_close(db);
    return err;
}
