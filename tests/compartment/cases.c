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
#include <sys/uio.h>
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

/* ---- what somebody does who has taken one over */

__attribute__((noinline)) int answer(void) {
  __asm__ volatile("");
  return 42;
}

/* Its own code, in its own copy. */
long patch_answer(void) {
  unsigned char* const at = (unsigned char*)(unsigned long)answer;
  unsigned char* const page = (unsigned char*)((unsigned long)at & ~4095ul);
  if (mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) return -errno;
  static const unsigned char returns_7[] = {0xb8, 7, 0, 0, 0, 0xc3};
  memcpy(at, returns_7, sizeof(returns_7));
  return 0;
}

/* What only ring 0 may execute. */
void privileged(int which) {
  unsigned long value = 0;
  switch (which) {
    case 0: __asm__ volatile("hlt"); break;
    case 1: __asm__ volatile("cli"); break;
    case 2: __asm__ volatile("mov %%cr3, %0" : "=r"(value)); break;
    case 3: __asm__ volatile("mov %0, %%cr3" : : "r"(value)); break;
    case 4: __asm__ volatile("rdmsr" : : "c"(0xc0000082) : "rax", "rdx"); break;
    case 5: __asm__ volatile("wrmsr" : : "a"(0), "d"(0), "c"(0xc0000082)); break;
    case 6: __asm__ volatile("out %%al, $0xe3" : : "a"(0)); break;
    case 7: __asm__ volatile("invlpg (%0)" : : "r"(&value)); break;
    case 8: __asm__ volatile("lidt %0" : : "m"(value)); break;
    case 9: __asm__ volatile("swapgs"); break;
    case 10: __asm__ volatile("int $0x80" : : "a"(20)); break;
    case 11: __asm__ volatile("iretq"); break;
    case 12: __asm__ volatile("sysretq"); break;
  }
}

void spin(void) {
  for (;;) __asm__ volatile("");
}

/* Leaves to wherever its stack says, which it has written itself. */
__attribute__((naked)) void smash_return(void) {
  __asm__("movq $0x41414141, (%rsp)\n\tret");
}
/* Back by the right gate, with another stack. */
__attribute__((naked)) void unbalance(void) {
  __asm__("popq %rax\n\tsubq $64, %rsp\n\tjmp *%rax");
}
__attribute__((naked)) void lose_stack(void) { __asm__("movq $16, %rsp\n\tret"); }
/* A base that no program of its ring has, and a system call. */
__attribute__((naked)) void take_kernels_base(void) {
  __asm__("movq $0xffffff8000000000, %rax\n\twrgsbase %rax\n\tmovl $39, %eax\n\tsyscall\n\tret");
}

long deepen(long levels) {
  volatile char room[4096];
  room[0] = (char)levels;
  return levels == 0 ? 0 : deepen(levels - 1) + room[0] - (char)levels;
}

/* Whether it had so much memory to write to. */
long fill(long size) {
  char* const at = malloc((unsigned long)size);
  if (at == NULL) return -ENOMEM;
  memset(at, 1, (unsigned long)size);
  const long sum = at[0] + at[size - 1];
  free(at);
  return sum;
}
long grow(long size, long steps) {
  char* at = NULL;
  for (long i = 1; i <= steps; ++i) {
    at = realloc(at, (unsigned long)(size * i));
    if (at == NULL) return -ENOMEM;
    at[size * i - 1] = (char)i;
  }
  long right = 1;
  for (long i = 1; i <= steps; ++i) right &= at[size * i - 1] == (char)i;
  free(at);
  return right;
}
/* Until it may not any more. */
void count_up(volatile unsigned long* at) {
  for (;;) ++*at;
}
long ask_until_refused(void) {
  long refused;
  do refused = look_at_clock();
  while (refused >= 0);
  return refused;
}
double twice(double value) { return value * 2; }
long send_parts(int fd, const void* first, const void* second, long size) {
  struct iovec parts[2] = {{(void*)first, (unsigned long)size}, {(void*)second, (unsigned long)size}};
  return status(writev(fd, parts, 2));
}
