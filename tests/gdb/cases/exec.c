// Forks a child, waits for it, then becomes another program.
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) int in_child(int n) { return n + 1; }

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IONBF, 0);
  if (argc > 1) {
    printf("again %d\n", in_child(argc));
    return 3;
  }
  pid_t child = fork();
  if (child == 0) _exit(in_child(40));
  int status = 0;
  waitpid(child, &status, 0);
  printf("child %d\n", WEXITSTATUS(status));
  execl(argv[0], argv[0], "again", NULL);
  return 1;
}
