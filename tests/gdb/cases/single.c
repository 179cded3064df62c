// One thread: frames, locals, vector and x87 registers, a changed variable, calls from gdb, a fault.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Point { int x, y; };
volatile int counter, never;
static const char constant[] = "read only";

__attribute__((noinline)) int add(int a, int b) { return a + b; }

__attribute__((noinline)) int depth(int n, struct Point *point) {
  if (n == 0) return point->x + point->y;
  return depth(n - 1, point) + 1;
}

__attribute__((noinline)) void count(void) {
  for (int i = 0; i < 5; ++i) {
    counter = i * 10;
    counter += constant[0] == 'r';
  }
}

__attribute__((noinline)) double vectors(double a, long double b) {
  __asm__ volatile("movsd %0, %%xmm7" : : "m"(a) : "xmm7");
  __asm__ volatile("nop" : : "t"(b));
  return a;
}

__attribute__((noinline)) void own_code(void) {
  unsigned char bytes[4];
  memcpy(bytes, (void *)add, sizeof(bytes));
  printf("first byte %s\n", bytes[0] == 0xcc ? "patched" : "its own");
}

__attribute__((noinline)) void own_flags(void) {
  unsigned long flags;
  __asm__ volatile("pushf; pop %0" : "=r"(flags));
  printf("trap flag %lu\n", flags >> 8 & 1);
}

__attribute__((noinline)) void crash(int *where) { *where = 1; }

// What is beside the watched bytes is read and written, too, and must not be taken for them.
static struct { char before[16]; volatile int word; char behind[44]; } watched __attribute__((aligned(64)));

__attribute__((noinline)) void look(void) {
  char copy[sizeof(watched)];
  int sum = watched.before[15] + watched.behind[0];
  __asm__ volatile("movups %0, %%xmm0" : : "m"(watched.before) : "xmm0");
  __asm__ volatile("movups %0, %%xmm0" : : "m"(watched.behind) : "xmm0");
  sum += watched.word;
  __asm__ volatile("movups %0, %%xmm0" : : "m"(watched.before[4]) : "xmm0");
  __asm__ volatile("push %0; pop %%rax" : : "m"(*(long *)&watched.before[8]) : "rax");
  __asm__ volatile("push %0; pop %%rax" : : "m"(*(long *)&watched.before[12]) : "rax");
  void *to = copy, *from = &watched;
  long count = sizeof(watched.before) + 1;  // the last byte is the first that is watched
  __asm__ volatile("cld; rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

__attribute__((noinline)) void touch(void) {
  look();
  watched.before[15] = watched.behind[0] = 1;
  watched.word = watched.word;
  __asm__ volatile("movups %%xmm0, %0" : "=m"(watched.behind) : : "xmm0");
  watched.word = 7;
}

int main(int argc, char **argv) {
  struct Point point = {argc, 2};
  setvbuf(stdout, NULL, _IONBF, 0);
  printf("depth %d\n", depth(3, &point));
  count();
  touch();
  vectors(1.5, 2.25L);
  own_code();
  own_flags();
  printf("sum %d\n", add(counter, point.y));
  if (getenv("DUNEBOX_CRASH") != NULL) crash(NULL);
  return 7;
}
