// Calls that use no descriptor leave none to a child, also when another thread is in the middle of one at the time of the fork.
// fork_descriptors [ROUNDS]
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

static volatile int stop;

static void* name_files(void* unused) {
  char text[256];
  struct stat status;
  while (!stop) {
    chmod("file", 0600);
    truncate("file", 0);
    stat("/proc/self/exe", &status);
    readlink("/proc/self/fd/0", text, sizeof(text));
    access("/proc/thread-self/exe", X_OK);
  }
  return unused;
}

// Descriptors of this process above the first three.
static int count(void) {
  int descriptors = 0;
  for (int fd = 3; fd < 64; ++fd) descriptors += fcntl(fd, F_GETFD) >= 0;
  return descriptors;
}

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 200;
  close(open("file", O_CREAT | O_WRONLY, 0600));
  const int before = count();
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) EXPECT(pthread_create(&threads[i], NULL, name_files, NULL) == 0);
  int more = 0;
  for (int round = 0; round < rounds; ++round) {
    const pid_t child = round % 2 == 0 ? fork() : vfork();
    if (child == 0) _exit(count() == before ? 0 : 1);
    int status;
    EXPECT(waitpid(child, &status, 0) == child);
    more += status != 0;
  }
  stop = 1;
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
  printf("children with more descriptors: %d\n", more);
  return 0;
}
