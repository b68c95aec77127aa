/* check: the parts of the program, a file or a function each. */
#ifndef GUESTS_CHECK_CHECK_H
#define GUESTS_CHECK_CHECK_H

/* One line, PASS or FAIL. */
void check(int good, const char *name);

void check_vm(void);
void check_high(void);
void check_threads(void);
void check_futex(void);
void check_signals(void);
void check_timers(void);
void check_waits(void);
void check_files(void);
void check_names(void);
void check_process(void);
void check_share(void);
void check_churn(void);

#endif
