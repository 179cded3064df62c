// Several threads that wait in system calls and spin, and signals between them.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static volatile int stop, handled, counter = 5;
static int pipe_ends[2];

__attribute__((noinline)) void at_rest(void) { __asm__ volatile(""); }
static void on_signal(int number) { handled = number; }

static void *spins(void *unused) {
  (void)unused;
  pthread_barrier_wait(&barrier);
  while (!stop) {
  }
  return NULL;
}

static void *waits(void *unused) {
  (void)unused;
  char byte = 0;
  pthread_barrier_wait(&barrier);
  ssize_t got = read(pipe_ends[0], &byte, 1);
  printf("read %zd %c\n", got, byte);
  return NULL;
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  signal(SIGUSR1, on_signal);
  if (pipe(pipe_ends) != 0) return 1;
  pthread_barrier_init(&barrier, NULL, 3);
  pthread_t spinner, waiter;
  pthread_create(&spinner, NULL, spins, NULL);
  pthread_create(&waiter, NULL, waits, NULL);
  pthread_barrier_wait(&barrier);
  usleep(200000);
  at_rest();
  if (getenv("DUNEBOX_CRASH") != NULL) abort();
  raise(SIGUSR1);
  printf("handled %d\n", handled == SIGUSR1);
  if (write(pipe_ends[1], "x", 1) != 1) return 1;
  pthread_join(waiter, NULL);
  stop = 1;
  pthread_join(spinner, NULL);
  return 0;
}
