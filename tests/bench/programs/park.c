// Says that it has started, and waits to be killed: what an instance costs that does nothing.
#include <stdio.h>
#include <unistd.h>

int main(void) {
  puts("ready");
  fflush(stdout);
  for (;;) pause();
}
