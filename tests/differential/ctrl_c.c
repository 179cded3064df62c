// Waits to be interrupted: computing, blocked in a system call, or with a handler that ends it in its own way.
//
//   ctrl_c compute | block | handle
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on_interrupt(int signal) {
  (void)signal;
  static const char text[] = "interrupted\n";
  if (write(1, text, sizeof(text) - 1) < 0) _exit(2);
  _exit(9);
}

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "compute";
  if (strcmp(how, "handle") == 0) signal(SIGINT, on_interrupt);
  printf("ready to %s\n", how);
  fflush(stdout);
  if (strcmp(how, "block") == 0) {
    for (;;) pause();
  }
  volatile unsigned long count = 0;
  for (;;) ++count;
}
