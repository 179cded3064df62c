// RLIMIT_CORE can be read and set, is inherited, and survives execve.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

static void show(const char* when) {
  struct rlimit limit;
  EXPECT(getrlimit(RLIMIT_CORE, &limit) == 0);
  printf("%s: %lld %lld\n", when, (long long)limit.rlim_cur, (long long)limit.rlim_max);
  fflush(stdout);
}

int main(int argc, char** argv) {
  if (argc > 1) {
    show("after execve");
    return 0;
  }
  show("at the start");  // the tests run with `ulimit -c 0`
  struct rlimit limit = {0, 0};
  EXPECT(setrlimit(RLIMIT_CORE, &limit) == 0);
  show("nothing");
  limit.rlim_max = 1 << 20;
  EXPECT(geteuid() == 0 || (setrlimit(RLIMIT_CORE, &limit) == -1 && errno == EPERM));
  limit = (struct rlimit){1, 0};
  EXPECT(setrlimit(RLIMIT_CORE, &limit) == -1 && errno == EINVAL);
  pid_t child = fork();
  if (child == 0) {
    show("in a child");
    abort();
  }
  int status;
  EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && !WCOREDUMP(status));
  execl("/proc/self/exe", argv[0], "again", NULL);
  EXPECT(!"execl");
}
