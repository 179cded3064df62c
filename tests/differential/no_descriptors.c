// A process that may open no more files still forks and makes threads.
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

static void *nothing(void *unused) { return unused; }

int main(void) {
  struct rlimit limit;
  EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = 0;
  EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  EXPECT(dup(1) == -1 && errno == EMFILE);
  pid_t child = fork();
  EXPECT(child >= 0);
  if (child == 0) _exit(dup(1) == -1 && errno == EMFILE ? 7 : 8);
  int status;
  EXPECT(waitpid(child, &status, 0) == child);
  printf("fork: %x\n", status);
  child = vfork();
  if (child == 0) _exit(9);
  EXPECT(child > 0);
  EXPECT(waitpid(child, &status, 0) == child);
  printf("vfork: %x\n", status);
  pthread_t thread;
  EXPECT(pthread_create(&thread, NULL, nothing, NULL) == 0);
  EXPECT(pthread_join(thread, NULL) == 0);
  puts("thread");
  return 0;
}
