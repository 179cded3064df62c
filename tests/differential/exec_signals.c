// A signal for a process that is just executing another program is not lost: the old program's handler takes it, or the
// new program gets it.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

enum { kRounds = 60, kStep = 100 };  // microseconds
enum status { kHandled = 3, kLost = 4, kFailed = 5 };

static void on_signal(int number) {
  (void)number;
  _exit(kHandled);
}

int main(int argc, char** argv) {
  if (argc > 1) {
    usleep(200000);
    return kLost;
  }
  const struct sigaction action = {.sa_handler = on_signal};
  EXPECT(sigaction(SIGTERM, &action, NULL) == 0);
  for (int round = 0; round < kRounds; ++round) {
    const pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
      execl("/proc/self/exe", argv[0], "executed", NULL);
      _exit(kFailed);
    }
    usleep((useconds_t)(round * kStep));
    EXPECT(kill(child, SIGTERM) == 0);
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child);
    const int died = WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
    EXPECT(died || (WIFEXITED(status) && WEXITSTATUS(status) == kHandled));
  }
  printf("%d signals, none lost\n", kRounds);
  return 0;
}
