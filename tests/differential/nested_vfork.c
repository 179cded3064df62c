// vforked children that vfork: what they make in memory that they share, but with descriptors of their
// own, is of no use to their parents.
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int exit_code_of(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

// Each in a function that is called for it: nothing on the stack is in use on both sides.
__attribute__((noinline)) static int leaf(void) {
  const pid_t child = vfork();
  if (child == 0) _exit(8);
  return exit_code_of(child);
}

__attribute__((noinline)) static int branch(void) {
  const pid_t child = vfork();
  if (child == 0) _exit(leaf() + 1);
  return exit_code_of(child);
}

__attribute__((noinline)) static int root(void) {
  const pid_t child = vfork();
  if (child == 0) _exit(branch() + 1);
  return exit_code_of(child);
}

int main(void) {
  for (int round = 0; round < 4; ++round) {
    printf("%d", root());
    printf(" %d\n", leaf());
  }
  return 0;
}
