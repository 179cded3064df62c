// A shared library that has state of every kind: what a snapshot has to keep and a clone must not share.
#include <fcntl.h>
#include <fenv.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {
constexpr unsigned long kPage = 4096;
int counter = 0;
thread_local int of_this_thread = 0;
char* kept_text = nullptr;
const char* pointed_to = nullptr;
char directory_text[PATH_MAX];
unsigned char pages[2048 * kPage];
unsigned char* code = nullptr;
volatile bool thread_goes_on = false;

void OnSignal(int) {}

// mov eax, NUMBER; ret
void WriteAnswer(unsigned char* to, int number) {
  to[0] = 0xb8;
  memcpy(to + 1, &number, sizeof(number));
  to[5] = 0xc3;
}
}  // namespace

extern "C" {

int next() { return ++counter; }
int next_of_thread() { return ++of_this_thread; }
void keep(const char* text) {
  free(kept_text);
  kept_text = strdup(text);
}
const char* kept() { return kept_text; }
void point_to(const char* text) { pointed_to = text; }
int first_of_pointed_to() { return *pointed_to; }

int change_directory(const char* path) { return chdir(path); }
const char* directory() { return getcwd(directory_text, sizeof(directory_text)); }
int change_mask(int mask) { return static_cast<int>(umask(static_cast<mode_t>(mask))); }
int open_file(const char* path) { return open(path, O_RDONLY | O_CLOEXEC); }
int read_byte(int fd) {
  unsigned char byte;
  return read(fd, &byte, 1) == 1 ? byte : -1;
}
int close_file(int fd) { return close(fd); }
int duplicate(int fd) { return dup(fd); }

int handle(int number, int on) {
  const sighandler_t before = signal(number, on != 0 ? OnSignal : SIG_DFL);
  return before == OnSignal ? 1 : 0;
}
// Whether it was.
int block(int number, int on) {
  sigset_t set, before;
  sigemptyset(&set);
  sigaddset(&set, number);
  sigprocmask(on != 0 ? SIG_BLOCK : SIG_UNBLOCK, &set, &before);
  return sigismember(&before, number);
}
int rounding(int mode) {
  const int before = fegetround();
  fesetround(mode);
  return before;
}

void dirty(int count, int value) {
  for (int i = 0; i < count; ++i) pages[static_cast<unsigned long>(i) * kPage] = static_cast<unsigned char>(value);
}
int sum_of_pages(int count) {
  int sum = 0;
  for (int i = 0; i < count; ++i) sum += pages[static_cast<unsigned long>(i) * kPage];
  return sum;
}
void* map(int count, int value) {
  void* const memory = mmap(nullptr, kPage * static_cast<unsigned long>(count), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  memset(memory, value, kPage * static_cast<unsigned long>(count));
  return memory;
}
int unmap(void* memory, int count) { return munmap(memory, kPage * static_cast<unsigned long>(count)); }
int forbid(void* memory, int count) {
  return mprotect(memory, kPage * static_cast<unsigned long>(count), PROT_NONE);
}
int give_up(void* memory, int count) {
  return madvise(memory, kPage * static_cast<unsigned long>(count), MADV_DONTNEED);
}
// Every other page of them; how many it was.
int give_up_every_other(void* memory, int count) {
  int given = 0;
  for (int i = 0; i < count; i += 2, ++given) {
    if (madvise(static_cast<char*>(memory) + kPage * static_cast<unsigned long>(i), kPage, MADV_DONTNEED) != 0) break;
  }
  return given;
}
// To twice the size; where it is then.
void* enlarge(void* memory, int count) {
  void* const moved = mremap(memory, kPage * static_cast<unsigned long>(count),
                             kPage * static_cast<unsigned long>(count) * 2, MREMAP_MAYMOVE);
  return moved == MAP_FAILED ? nullptr : moved;
}
int look(const unsigned char* at) { return *at; }
void* allocate(unsigned long size) { return memset(malloc(size), 1, size); }

// Code in memory that can be written.
int set_answer(int number) {
  if (code == nullptr) {
    void* const memory = mmap(nullptr, kPage, PROT_READ | PROT_WRITE | PROT_EXEC,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return -1;
    code = static_cast<unsigned char*>(memory);
  }
  WriteAnswer(code, number);
  return 0;
}
int answer() { return reinterpret_cast<int (*)()>(code)(); }

// Code of the library itself.
__attribute__((noinline, aligned(4096))) int fixed_answer() {
  __asm__ volatile("nop; nop; nop; nop; nop; nop; nop; nop");
  return 1;
}
int change_fixed_answer(int number) {
  auto* const page = reinterpret_cast<unsigned char*>(fixed_answer);
  // This function is in the same page.
  if (mprotect(page, kPage, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) return -1;
  WriteAnswer(page, number);
  return mprotect(page, kPage, PROT_READ | PROT_EXEC);
}

int start_thread() {
  pthread_t thread;
  thread_goes_on = true;
  const auto main = [](void*) -> void* {
    while (thread_goes_on) usleep(1000);
    return nullptr;
  };
  return pthread_create(&thread, nullptr, main, nullptr);
}
void let_thread_end() { thread_goes_on = false; }
void crash() { *reinterpret_cast<volatile int*>(16) = 1; }
[[noreturn]] void spin() {
  for (;;) __asm__ volatile("");
}
int call_back(int (*function)(int), int value) { return function(value) + 1; }

// In every register that a function may leave or has to leave alone. It returns with them.
void leave_in_registers(unsigned long value);
// How many of those have it at the entry of a function.
int registers_with(unsigned long value);
__asm__(R"(
  .text
  .globl leave_in_registers, registers_with
leave_in_registers:
  movq %rdi, %rbx
  movq %rdi, %rbp
  movq %rdi, %r8
  movq %rdi, %r9
  movq %rdi, %r10
  movq %rdi, %r11
  movq %rdi, %r12
  movq %rdi, %r13
  movq %rdi, %r14
  movq %rdi, %r15
  .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  movq %rdi, %xmm\number
  .endr
  movq %rdi, %mm3
  movq %rdi, %rcx
  movq %rdi, %rdx
  movq %rdi, %rax
  ret
registers_with:
  xorl %eax, %eax
  .irp name, rbx, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rcx, rdx
  xorl %esi, %esi
  cmpq %\name, %rdi
  sete %sil
  addl %esi, %eax
  .endr
  .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  movq %xmm\number, %rcx
  xorl %esi, %esi
  cmpq %rcx, %rdi
  sete %sil
  addl %esi, %eax
  .endr
  movq %mm3, %rcx
  emms
  xorl %esi, %esi
  cmpq %rcx, %rdi
  sete %sil
  addl %esi, %eax
  ret
)");
}
