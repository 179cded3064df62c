// What the programs of this folder have in common: each takes all it can get of one thing, and
// stops by itself at a bound that no limit of these tests comes near, so that a sandbox which fails
// does not harm the machine.
//
//   if (++*made > kMostTasks) Escaped("tasks");
#ifndef DUNEBOX_TESTS_SECURITY_ABUSE_ABUSE_H_
#define DUNEBOX_TESTS_SECURITY_ABUSE_ABUSE_H_

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
  kMostTasks = 400,
  kMostMegabytes = 512,
  kMostDescriptors = 20000,
  kMostSeconds = 50,
};

// It got more than any limit allows: ends all of the abuse that is in this process group.
static inline void Escaped(const char* what) {
  printf("ESCAPED: %s\n", what);
  fflush(stdout);
  kill(0, SIGKILL);
}

// A counter that children count with.
static inline int* SharedCounter(void) {
  int* counter = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (counter == MAP_FAILED) exit(99);
  return counter;
}

// The cases, by the file they are in: tasks.c, memory.c, files.c, processes.c.
int ForkBomb(void);
int ThreadBomb(void);
int BusyLoop(void);
int ShortChildren(void);
int ForgottenChildren(void);
int BusyBehindStop(void);
int MemoryHog(void);
int DescriptorHog(void);
int OutputFlood(void);
int DiskFiller(void);
int LargeFile(void);
int DeepDirectory(void);
int ManyArguments(void);
int Siblings(void);

#endif  // DUNEBOX_TESTS_SECURITY_ABUSE_ABUSE_H_
