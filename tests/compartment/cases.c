/* What the tests have compartments do. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* Gates. */
long (*sign)(const unsigned char*, long);
long (*lend)(long);

static int counter;

int next(void) { return ++counter; }
int peek(const volatile unsigned char* at) { return *at; }
void poke(volatile unsigned char* at, int value) { *at = (unsigned char)value; }
void jump(void (*to)(void)) { to(); }

/* Over the whole of it, as a request that is out of bounds does. */
long sum(const unsigned char* from, long size) {
  long total = 0;
  for (long i = 0; i < size; ++i) total += from[i];
  return total;
}

long use_sign(const unsigned char* from, long size) { return sign(from, size); }
long use_lend(long value) { return lend(value); }
/* Of a gate that it was not given the address of: the one behind. */
long use_next_gate(long value) {
  long (*behind)(long) = (long (*)(long))((unsigned long)lend + 16);
  return behind(value);
}

/* Adds what `secret` holds to what the caller sends. */
long keeper(const unsigned char* secret, const unsigned char* text, long size) {
  long total = secret[0];
  for (long i = 0; i < size; ++i) total += text[i];
  return total;
}

static long status(long result) { return result < 0 ? -errno : result; }

long read_from(int fd, void* to, long size) { return status(read(fd, to, (unsigned long)size)); }
long write_to(int fd, const void* from, long size) {
  return status(write(fd, from, (unsigned long)size));
}
long duplicate(int fd) { return status(dup(fd)); }
long unmap(void* at, long size) { return status(munmap(at, (unsigned long)size)); }
long make_writable(void* at, long size) {
  return status(mprotect(at, (unsigned long)size, PROT_READ | PROT_WRITE));
}
long map_over(void* at, long size) {
  void* const got = mmap(at, (unsigned long)size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return got == MAP_FAILED ? -errno : 0;
}

void say(void) {
  printf("said\n");
  fflush(stdout);
}

long open_file(const char* path) { return status(open(path, O_RDONLY)); }
static void* nothing(void* none) { return none; }
long start_thread(void) {
  pthread_t thread;
  const int error = pthread_create(&thread, NULL, nothing, NULL);
  if (error != 0) return -error;
  return -pthread_join(thread, NULL);
}
long handle_signal(void) { return signal(SIGUSR1, SIG_IGN) == SIG_ERR ? -errno : 0; }
long look_at_clock(void) {
  struct timespec now;
  return status(clock_gettime(CLOCK_MONOTONIC, &now));
}
long draw(void) {
  unsigned value;
  return status(getrandom(&value, sizeof(value), 0));
}
long look_at_machine(void) {
  struct utsname name;
  return status(uname(&name));
}
