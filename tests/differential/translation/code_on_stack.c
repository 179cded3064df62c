// A program that asks for an executable stack: trampolines of nested functions, and code in automatic arrays.
#include <pthread.h>
#include <signal.h>

#include "code.h"

__attribute__((noinline)) static long apply(long (*function)(long), long argument) { return function(argument); }

__attribute__((noinline)) static long nested(long depth, long start) {
  long total = start;
  long add(long value) {  // the compiler puts a trampoline on the stack
    total += value * depth;
    return total;
  }
  for (long i = 0; i < 10; ++i) apply(add, i);
  return depth > 0 ? nested(depth - 1, total) : total;
}

// New code at the same stack address again and again, beside data that changes.
__attribute__((noinline)) static long on_stack(int i) {
  unsigned char code[32];
  volatile long beside = i;
  put_linear(code, i, 3);
  __asm__ volatile("" ::"r"(code) : "memory");
  return call_code(code, i) + beside;
}

static volatile long from_handler;

static void handler(int signal) {
  (void)signal;
  from_handler += on_stack((int)from_handler % 100);
}

static void* in_thread(void* unused) {
  (void)unused;
  long sum = nested(10, 7);
  for (int i = 0; i < 500; ++i) sum = sum * 3 + on_stack(i);
  return (void*)sum;
}

int main(void) {
  printf("nested functions: %ld\n", nested(100, 1));
  long sum = 0;
  for (int i = 0; i < 3000; ++i) sum = sum * 3 + on_stack(i);
  printf("code on the stack: %lx\n", sum);
  EXPECT(signal(SIGUSR1, handler) != SIG_ERR);
  for (int i = 0; i < 100; ++i) raise(SIGUSR1);
  printf("in a handler: %lx\n", from_handler);
  pthread_t thread;
  void* result;
  EXPECT(pthread_create(&thread, NULL, in_thread, NULL) == 0 && pthread_join(thread, &result) == 0);
  printf("in a thread: %lx\n", (long)result);
  return 0;
}
