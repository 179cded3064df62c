#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "attack.h"

#define RACE_MILLISECONDS 700
#define MOST_HOLES_TOLD 20

const char* work;
pid_t bystander;
uint16_t open_port, closed_port;

static int holes;
static const char* contained_to;

void hole(const char* format, ...) {
  if (++holes > MOST_HOLES_TOLD) return;
  va_list arguments;
  va_start(arguments, format);
  printf("OPEN: ");
  vprintf(format, arguments);
  printf("\n");
  fflush(stdout);
  va_end(arguments);
}

void refused(const char* what, long result) {
  if (result >= 0) hole("%s: %ld", what, result);
}

void contained(const char* to) { contained_to = to; }

const char* in_work(const char* name) {
  static _Thread_local char paths[4][512];
  static _Thread_local unsigned next;
  char* const path = paths[next++ % 4];
  snprintf(path, sizeof(paths[0]), "%s/%s", work, name);
  return path;
}

void must_not_be_secret(const char* what, int file) {
  if (file < 0) return;
  char text[6] = {0};
  const ssize_t got = pread(file, text, sizeof(text), 0);
  close(file);
  if (got == sizeof(text) && memcmp(text, "SECRET", sizeof(text)) == 0) hole("%s: read the secret", what);
}

void must_not_read(const char* what, int directory, const char* path) {
  must_not_be_secret(what, openat(directory, path, O_RDONLY | O_CLOEXEC));
}

bool still_racing(void) {
  static struct timespec begin;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (begin.tv_sec == 0) begin = now;
  return (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < RACE_MILLISECONDS;
}

static volatile bool race_is_on;
static pthread_t racer;

static void* disturb_for_ever(void* disturb) {
  while (race_is_on) ((void (*)(void))disturb)();
  return NULL;
}

void begin_race(void (*disturb)(void)) {
  race_is_on = true;
  if (pthread_create(&racer, NULL, disturb_for_ever, (void*)disturb) != 0) exit(2);
}

void end_race(void) {
  race_is_on = false;
  pthread_join(racer, NULL);
}

static sigjmp_buf after_signal;
static void leave(int signal_number) { siglongjmp(after_signal, signal_number); }

int signal_of(void (*code)(void)) {
  static const int kSignals[] = {SIGSEGV, SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSYS};
  static char stack[65536];
  const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_handler = leave, .sa_flags = SA_ONSTACK}, old[6];
  for (int i = 0; i < 6; ++i) sigaction(kSignals[i], &action, &old[i]);
  const int signal_number = sigsetjmp(after_signal, 1);
  if (signal_number == 0) code();
  __asm__ volatile("pushfq; andl $~0x44500, (%%rsp); popfq" ::: "memory", "cc");
  for (int i = 0; i < 6; ++i) sigaction(kSignals[i], &old[i], NULL);
  return signal_number;
}

int status_of_child(void (*code)(void)) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    code();
    _exit(0);
  }
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child) hole("no child: %d", errno);
  return status;
}

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  work = argv[2];
  bystander = atoi(argv[3]);
  open_port = (uint16_t)atoi(argv[4]);
  closed_port = (uint16_t)atoi(argv[5]);
  const struct attack* const all[] = {file_attacks, reach_attacks, limit_attacks, engine_attacks};
  const struct attack* chosen = NULL;
  for (int i = 0; i < 4; ++i) {
    for (const struct attack* attack = all[i]; attack->name != NULL; ++attack) {
      if (strcmp(attack->name, argv[1]) == 0) chosen = attack;
    }
  }
  if (chosen == NULL) return 2;
  chosen->run();
  // The program and its way into the kernel still work.
  if (syscall(SYS_getpid) != getpid()) hole("getpid gives something else");
  if (holes > 0) {
    printf("verdict: OPEN\n");
  } else if (contained_to != NULL) {
    printf("verdict: contained: %s\n", contained_to);
  } else {
    printf("verdict: blocked\n");
  }
  return holes > 0;
}
