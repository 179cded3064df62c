// Gathers and scatters by 64-bit indices and with a segment base, which an engine may carry out itself: what they load and store, and
// what a program is told that lets their faults happen, repairs and goes on.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../expect.h"

enum { kPage = 4096, kPages = 4 };

static char* area;  // three pages: may be written, its like, one that depends on the case
static int file;
static void (*repair)(void);
static volatile sig_atomic_t signals;
static sigjmp_buf out;

static void on_signal(int signal, siginfo_t* info, void* context) {
  (void)context;
  ++signals;
  printf("signal %d code %d", signal, info->si_code);
  if (info->si_code != SI_KERNEL) printf(" at %ld", (long)((char*)info->si_addr - area));
  printf("\n");
  if (repair == NULL || signals > 9) siglongjmp(out, 1);
  repair();
}

// Elements 0 and 3 lie in the first page, 1 is masked out, 2 is at `third`.
__attribute__((target("avx2"))) static void gather(const char* base, int64_t third) {
  int64_t index[4] = {8, 1L << 60, third, 24}, mask[4] = {-1, 1, INT64_MIN, -1}, to[4] = {1, 2, 3, 4}, left[4];
  __asm__ volatile(
      "vmovdqu %[index], %%ymm1\n vmovdqu %[mask], %%ymm2\n vmovdqu %[to], %%ymm3\n"
      "vpgatherqq %%ymm2, (%[base], %%ymm1, 1), %%ymm3\n"
      "vmovdqu %%ymm3, %[to]\n vmovdqu %%ymm2, %[left]\n vzeroupper\n"
      : [to] "+m"(to), [left] "=m"(left)
      : [index] "m"(index), [mask] "m"(mask), [base] "r"(base)
      : "xmm1", "xmm2", "xmm3", "memory");
  printf("gathered %lx %lx %lx %lx, left %lx %lx %lx %lx\n", to[0], to[1], to[2], to[3], left[0], left[1], left[2], left[3]);
}

__attribute__((target("avx512vl"))) static void scatter(char* base, int64_t third, const int32_t* from) {
  int64_t index[4] = {8, 1L << 60, third, 24};
  unsigned left = 0xffd;
  __asm__ volatile(
      "vmovdqu %[index], %%ymm1\n vmovdqu (%[from]), %%xmm2\n kmovw %[left], %%k1\n"
      "vpscatterqd %%xmm2, (%[base], %%ymm1, 1)%{%%k1%}\n"
      "kmovw %%k1, %[left]\n vzeroupper\n"
      : [left] "+r"(left)
      : [index] "m"(index), [from] "r"(from), [base] "r"(base)
      : "xmm1", "xmm2", "memory");
  printf("scattered, left %x\n", left);
}

static __thread int64_t of_thread[4] = {11, 22, 33, 44};

__attribute__((target("avx2"))) static void gather_of_thread(void) {
  char* fs;
  __asm__("mov %%fs:0, %0" : "=r"(fs));
  int64_t to[4];
  const int32_t index[4] = {3, 2, 1, 0};
  __asm__ volatile(
      "vmovdqu %[index], %%xmm1\n vpcmpeqd %%ymm2, %%ymm2, %%ymm2\n"
      "vpgatherdq %%ymm2, %%fs:(%[base], %%xmm1, 8), %%ymm3\n vmovdqu %%ymm3, %[to]\n vzeroupper\n"
      : [to] "=m"(to)
      : [index] "m"(index), [base] "r"((char*)of_thread - fs), "m"(of_thread)
      : "xmm1", "xmm2", "xmm3");
  printf("of the thread %ld %ld %ld %ld\n", to[0], to[1], to[2], to[3]);
}

// #SS, not #GP: through the frame pointer.
__attribute__((target("avx2"))) static void gather_by_frame_pointer(int64_t index) {
  __asm__ volatile(
      "vmovq %[index], %%xmm1\n vpcmpeqd %%xmm2, %%xmm2, %%xmm2\n"
      "push %%rbp\n mov $0, %%ebp\n vpgatherqq %%xmm2, (%%rbp, %%xmm1, 1), %%xmm3\n pop %%rbp\n"
      :
      : [index] "r"(index)
      : "xmm1", "xmm2", "xmm3", "memory");
}

static void allow(void) { EXPECT(mprotect(area + 2 * kPage, kPage, PROT_READ | PROT_WRITE) == 0); }
static void map(void) {
  EXPECT(mmap(area + 2 * kPage, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
}
static void lengthen(void) { EXPECT(ftruncate(file, 3 * kPage) == 0); }

static void fill(void) {
  for (int i = 0; i < 2 * kPage; ++i) area[i] = (char)(i * 7 + 1);
}

static void forbid(int protection) { EXPECT(mprotect(area + 2 * kPage, kPage, protection) == 0); }
static void unmap(void) { EXPECT(munmap(area + 2 * kPage, kPage) == 0); }
static void shorten(void) {
  file = memfd_create("short", 0);
  EXPECT(file >= 0 && ftruncate(file, 2 * kPage) == 0);
  EXPECT(mmap(area, 3 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != MAP_FAILED);
  fill();
}

static const int32_t kNumbers[4] = {0x1111, 0x2222, 0x33333333, 0x4444};

static void both(int64_t third, void (*spoil)(void), void (*repaired)(void)) {
  repair = repaired;
  if (spoil != NULL) spoil();
  signals = 0;
  if (sigsetjmp(out, 1) == 0) gather(area, third);
  if (spoil != NULL) spoil();
  signals = 0;
  if (sigsetjmp(out, 1) == 0) scatter(area, third, kNumbers);
  int32_t first, last;
  memcpy(&first, area + 8, 4);
  memcpy(&last, area + 24, 4);
  printf("now %x %x\n", first, last);
  fill();
}

static void make_unreadable(void) { forbid(PROT_NONE); }
static void make_read_only(void) { forbid(PROT_READ); }

// mov eax, NUMBER; ret
static void patch(void) {
  static const unsigned char kCode[] = {0xb8, 1, 0, 0, 0, 0xc3};
  char* code = mmap(NULL, kPage, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(code != MAP_FAILED);
  memcpy(code + 100, kCode, sizeof(kCode));
  int (*function)(void) = (int (*)(void))(void*)(code + 100);
  for (int i = 0; i < 5; ++i) {
    const int32_t numbers[4] = {0, 0, i * 1000, 0};
    printf("code says %d\n", function());
    scatter(code, 101, numbers);
  }
  printf("code says %d\n", function());
  munmap(code, kPage);
}

static void at_no_address(void) {
  both((1L << 47) - (int64_t)area, NULL, NULL);
  both((1L << 47) - (int64_t)area - 3, NULL, NULL);
  signals = 0, repair = NULL;
  if (sigsetjmp(out, 1) == 0) gather_by_frame_pointer(1L << 62);
}

int main(int count, char** arguments) {
  if (!__builtin_cpu_supports("avx512vl")) SKIP("the processor has no AVX-512");
  setvbuf(stdout, NULL, _IONBF, 0);
  area = mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(area != MAP_FAILED && munmap(area + 3 * kPage, kPage) == 0);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  fill();
  if (count > 1 && strcmp(arguments[1], "noncanonical") == 0) {
    at_no_address();
    return 0;
  }
  gather_of_thread();
  both(kPage + 5, NULL, NULL);
  both(2 * kPage + 8, make_unreadable, allow);
  both(2 * kPage - 3, make_unreadable, allow);
  both(2 * kPage - 3, make_unreadable, NULL);
  both(2 * kPage + 8, make_read_only, allow);
  both(2 * kPage - 1, make_read_only, allow);
  both(2 * kPage + 8, unmap, map);
  both(2 * kPage - 2, unmap, map);
  both(2 * kPage + 8, shorten, lengthen);
  both(2 * kPage - 2, shorten, lengthen);
  patch();
  return 0;
}
