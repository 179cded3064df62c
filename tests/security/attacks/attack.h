// What the attacks share. One program, `attacks`, with many named cases:
//
//   attacks CASE WORK BYSTANDER OPEN_PORT CLOSED_PORT
//
// It tries what no program may reach and judges by what came of it: a secret read, a byte that is
// not its own, a call that went through. `run`, which starts it, looks at the host afterwards. The
// last line is "verdict: blocked", "verdict: contained: TO WHAT" or, after an "OPEN: ..." for each
// hole, "verdict: OPEN".
#ifndef DUNEBOX_TESTS_SECURITY_ATTACKS_ATTACK_H_
#define DUNEBOX_TESTS_SECURITY_ATTACKS_ATTACK_H_

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct attack {
  const char* name;
  void (*run)(void);
};
// Each ends with a null name.
extern const struct attack file_attacks[], reach_attacks[], limit_attacks[], engine_attacks[];

// WORK/given may be changed, WORK/read be read, WORK/secret be neither; each has a file `canary`, and
// that in `secret` begins with "SECRET".
extern const char* work;
extern pid_t bystander;  // a process outside, of the same user
extern uint16_t open_port, closed_port;
// An address of the runtime's half.
#define RUNTIME_ADDRESS ((void*)0x555555554000)

// Something got through.
void hole(const char* format, ...) __attribute__((format(printf, 1, 2)));
// A call that must have failed did.
void refused(const char* what, long result);
// The attack is no error, but reaches no further than `to`.
void contained(const char* to);

// WORK/name, in one of a few buffers.
const char* in_work(const char* name);
// Can be opened, and is the secret: a hole.
void must_not_read(const char* what, int directory, const char* path);
// The same of an open file, which is closed. Negative: it is none.
void must_not_be_secret(const char* what, int file);

// Races last that long.
bool still_racing(void);
// A thread that calls `disturb` until end_race.
void begin_race(void (*disturb)(void));
void end_race(void);
// Between two values, so that each is there for as long as the other.
static inline void stay_a_moment(void) {
  for (volatile int i = 0; i < 60; ++i) continue;
  __asm__ volatile("" ::: "memory");
}

// Runs it where the processor's signals are caught; the signal, 0 when it came back. What it changes
// of the flags is put back.
int signal_of(void (*code)(void));
// In a child of its own: its wait status.
int status_of_child(void (*code)(void));

#endif  // DUNEBOX_TESTS_SECURITY_ATTACKS_ATTACK_H_
