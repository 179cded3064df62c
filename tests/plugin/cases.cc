// An ordinary shared library with functions of all kinds, good and bad. It does not know where it runs.
#include "tests/plugin/cases.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <string>

namespace {
int constructed = 0;
thread_local int of_this_thread = 0;
std::atomic<int> counter{0};

__attribute__((constructor)) void Construct() { constructed = 42; }
}  // namespace

extern "C" {

// ---- arguments and results

int add(int a, int b) { return a + b; }
double scale(double value, int by, float offset) { return value * by + static_cast<double>(offset); }
float halve(float value) { return value / 2; }
long sum_many(long a, long b, long c, long d, long e, long f, long g, long h) {
  return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
}
double sum_mixed(long a, double b, long c, double d, double e, double f, double g, double h, double i,
                 double j, double k, long l) {
  return static_cast<double>(a + c + l) + b + d + e + f + g + h + i + j * 100 + k * 1000;
}
Large make_large(long first, long step) {
  Large result;
  for (long i = 0; i < 5; ++i) result.values[i] = first + i * step;
  return result;
}
void change_large(Large* large) {
  for (long& value : large->values) value = -value;
}
Point turn(Point point) { return {-point.y, point.x}; }
Color darker(Color color, float factor) {
  for (float& part : color.parts) part *= factor;
  return color;
}
Item reprice(Item item, double price) { return {item.id + 1, item.weight * 2, price - item.price}; }
Range tail(Range range, unsigned from) { return {range.start + from, range.length - from}; }
double sum_structures(Large large, Point a, Range no_room, long b, Item split, Color c, Point d, Point e, Point f) {
  double sum = a.x + a.y + static_cast<double>(no_room.length + static_cast<unsigned long>(b)) +
               split.id + static_cast<double>(split.weight) + split.price;
  for (const long value : large.values) sum += static_cast<double>(value);
  for (const float part : c.parts) sum += static_cast<double>(part);
  return sum + d.x + d.y + 10 * (e.x + e.y) + 100 * (f.x + f.y);
}
double with_few_registers(long a, long b, long c, long d, long e, Range stays, long g) {
  return static_cast<double>(a + b + c + d + e + 10 * static_cast<long>(stays.length) + 100 * g);
}
Point call_back_point(Point (*function)(Point, Item), Point point) { return function(point, {1, 2, 3}); }
Range call_back_range(Range (*function)(long, long, long, long, long, Range, long, double), Range range) {
  return function(1, 2, 3, 4, 5, range, 6, 0.5);
}
long call_back_large(Large (*function)(Large, int), Large large) {
  const Large got = function(large, 3);
  return got.values[0] + got.values[4];
}
unsigned long add_words(unsigned long a, unsigned long b) { return a + b; }
unsigned char wrap(unsigned char value) { return static_cast<unsigned char>(value + 1); }
const char* greeting() { return "good day"; }
unsigned long length(const char* text) { return strlen(text); }
void* identity(void* pointer) { return pointer; }
void nothing() {}

// ---- an ordinary process

int was_constructed() { return constructed; }
int next_of_thread() { return ++of_this_thread; }
int next() { return ++counter; }
int fail_to_open(const char* path) { return open(path, O_RDONLY) < 0 ? errno : 0; }
int fail_to_look(const char* path) {
  struct stat status;
  return stat(path, &status) < 0 ? errno : 0;
}
// How many times it can be opened, up to `most`; `keeps`: they stay open.
int open_often(const char* path, int most, int keeps) {
  int files[256], count = 0;
  for (; count < most && count < 256; ++count) {
    if ((files[count] = open(path, O_RDONLY)) < 0) break;
  }
  for (int i = 0; i < count && keeps == 0; ++i) close(files[i]);
  return count;
}
int fail_to_write(const char* path) { return open(path, O_WRONLY | O_CREAT, 0600) < 0 ? errno : 0; }
int say(const char* text) {
  const int written = printf("%s\n", text);
  fflush(stdout);
  return written;
}
// It goes on for ever.
int say_in_thread(const char* text) {
  static char copy[100];
  static bool is_said;
  strncpy(copy, text, sizeof(copy) - 1);
  is_said = false;
  const auto main = [](void*) -> void* {
    say(copy);
    __atomic_store_n(&is_said, true, __ATOMIC_RELEASE);
    for (;;) sleep(1);
  };
  pthread_t thread;
  if (pthread_create(&thread, nullptr, main, nullptr) != 0) return 1;
  while (!__atomic_load_n(&is_said, __ATOMIC_ACQUIRE)) sched_yield();
  return 0;
}
int throw_and_catch(int value) {
  try {
    throw std::runtime_error(std::to_string(value));
  } catch (const std::exception& caught) {
    return atoi(caught.what());
  }
}
int run_threads(int count) {
  pthread_t threads[64];
  const auto main = [](void*) -> void* {
    for (int i = 0; i < 1000; ++i) ++counter;
    return nullptr;
  };
  int started = 0;
  for (; started < count; ++started) {
    if (pthread_create(&threads[started], nullptr, main, nullptr) != 0) break;
  }
  for (int i = 0; i < started; ++i) pthread_join(threads[i], nullptr);
  return started;
}
int count() { return counter; }
int handle_own_signals() {
  static volatile sig_atomic_t seen;
  static sigjmp_buf back;
  seen = 0;
  signal(SIGUSR1, [](int) { seen = seen + 1; });
  raise(SIGUSR1);
  signal(SIGSEGV, [](int) { siglongjmp(back, 1); });
  if (sigsetjmp(back, 1) == 0) {
    *reinterpret_cast<volatile int*>(16) = 1;
  } else {
    seen = seen + 10;
  }
  signal(SIGSEGV, SIG_DFL);
  return seen;
}
long seconds() { return time(nullptr); }
int get_pid() { return getpid(); }
void* grow(unsigned long from, unsigned long to) {
  auto* const memory = static_cast<unsigned char*>(malloc(from));
  if (memory == nullptr) return nullptr;
  memset(memory, 7, from);
  auto* const larger = static_cast<unsigned char*>(realloc(memory, to));
  if (larger == nullptr) return nullptr;
  for (unsigned long i = 0; i < from; ++i) {
    if (larger[i] != 7) return nullptr;
  }
  larger[to - 1] = 1;
  return larger;
}
void* allocate(unsigned long size) { return malloc(size); }
// As what has no other answer does.
void allocate_or_abort(unsigned long size) {
  if (malloc(size) == nullptr) abort();
}

// ---- what a plugin should not do

int read_at(unsigned long address) { return *reinterpret_cast<volatile unsigned char*>(address); }
void write_at(unsigned long address, int value) {
  *reinterpret_cast<volatile unsigned char*>(address) = static_cast<unsigned char>(value);
}
int call_address(unsigned long address) { return reinterpret_cast<int (*)()>(address)(); }
[[noreturn]] void spin() {
  for (;;) __asm__ volatile("");
}
// Two instructions at least each time.
void count_in(volatile long* place, long most) {
  for (long i = 0; i < most; ++i) *place = i + 1;
}
[[gnu::noinline]] static void count_one(volatile long* place, long number) { *place = number; }
void count_in_calls(volatile long* place, long most) {
  for (long i = 0; i < most; ++i) count_one(place, i + 1);
}
[[noreturn]] void spin_in_calls() {
  for (;;) getpid();
}
// As code does that wants nobody to step it.
[[noreturn]] void spin_without_trap_flag() {
  for (;;) {
    asm volatile(
        "subq $128, %%rsp\n\t"
        "pushfq\n\t"
        "andq $-257, (%%rsp)\n\t"
        "popfq\n\t"
        "addq $128, %%rsp" ::: "cc", "memory");
  }
}
void sleep_for(int seconds) { sleep(static_cast<unsigned>(seconds)); }
void wait_for_ever() {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);
  pthread_mutex_lock(&mutex);
}
void leave(int status) { exit(status); }
void leave_at_once(int status) { _exit(status); }
void end() { abort(); }
int signal_self(int number) { return kill(getpid(), number); }
int raise_here(int number) { return raise(number); }
int signal_process(int pid, int number) { return kill(pid, number) == 0 ? 0 : errno; }
int fork_error() { return fork() < 0 ? errno : 0; }
int execute_error() {
  char* arguments[] = {const_cast<char*>("/bin/true"), nullptr};
  return execve("/bin/true", arguments, arguments + 1) < 0 ? errno : 0;
}
int socket_error() { return socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0; }
int descriptor_error(int fd) { return fcntl(fd, F_GETFD) < 0 ? errno : 0; }
int unmap_error(void* address, unsigned long size) { return munmap(address, size) == 0 ? 0 : errno; }
int protect_error(void* address, unsigned long size) {
  return mprotect(address, size, PROT_NONE) == 0 ? 0 : errno;
}
int map_over_error(void* address, unsigned long size) {
  return mmap(address, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED
             ? errno
             : 0;
}
// How many pages of different rights next to each other can be had.
int count_mappings(int most) {
  int made = 0;
  for (; made < most; ++made) {
    const int rights = made % 2 == 0 ? PROT_READ : PROT_READ | PROT_WRITE;
    if (mmap(nullptr, 4096, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) break;
  }
  return made;
}
int punch_holes(int most) {
  const unsigned long size = 8192ul * static_cast<unsigned>(most);
  void* const memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return -1;
  int made = 0;
  for (; made < most; ++made) {
    if (munmap(static_cast<char*>(memory) + 8192l * made + 4096, 4096) != 0) break;
  }
  return made;
}
// Of every other page. How many could be.
int advise_every_other(int most, int advice) {
  const unsigned long size = 8192ul * static_cast<unsigned>(most);
  void* const memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return -1;
  int made = 0;
  while (made < most && madvise(static_cast<char*>(memory) + 8192l * made, 4096, advice) == 0) ++made;
  return made;
}
int execute_every_other(int most) {
  const unsigned long size = 8192ul * static_cast<unsigned>(most);
  void* const memory =
      mmap(nullptr, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return -1;
  int sum = 0;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < most; ++i) {
      unsigned char* const code = static_cast<unsigned char*>(memory) + 8192l * i;
      const unsigned char text[] = {0xb8, static_cast<unsigned char>(round), 0, 0, 0, 0xc3};  // mov eax, round; ret
      memcpy(code, text, sizeof(text));
      sum += reinterpret_cast<int (*)()>(code)();
    }
  }
  return sum;
}
// As many parts as there may be, all the same; in KiB.
long write_much(unsigned long part) {
  static iovec parts[1024];
  void* const memory = mmap(nullptr, part, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (iovec& one : parts) one = {memory, part};
  return writev(1, parts, 1024) / 1024;
}
// The error, or 0.
int read_file_at(const char* path, unsigned long offset, char* to, unsigned long size) {
  const int fd = open(path, O_RDONLY);
  if (fd < 0) return errno;
  const int error = pread(fd, to, size, static_cast<off_t>(offset)) < 0 ? errno : 0;
  close(fd);
  return error;
}
int open_as_often_as_it_goes(const char* path) {
  int count = 0;
  while (open(path, O_RDONLY) >= 0) ++count;
  return errno == EMFILE ? count : -errno;
}
unsigned long first_word(unsigned long first, unsigned long) { return first; }
__attribute__((noinline)) int recurse(int depth) {
  volatile char room[4096];
  room[0] = static_cast<char>(depth);
  return recurse(depth + 1) + room[0];
}
void smash_stack() {
  auto* const frame = static_cast<unsigned long*>(__builtin_frame_address(0));
  for (int i = 0; i < 64; ++i) frame[i] = 0x4141414141414141;
}
// Sets what a function has to leave alone.
void change_state() {
  const unsigned mxcsr = 0x0000;  // every exception unmasked
  const unsigned short control = 0x0000;
  __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
  __asm__ volatile("fldcw %0; fldz; fldz; fldz; fldz; fldz; fldz; fldz" : : "m"(control));
  __asm__ volatile("vpcmpeqd %%ymm7, %%ymm7, %%ymm7; vmovdqa %%ymm7, %%ymm8" : : : "xmm7", "xmm8");
  __asm__ volatile("pushfq; orq $0x244400, (%%rsp); popfq" : : : "cc", "memory");  // DF NT AC ID
}
int divide(int a, int b) {
  volatile int divisor = b;
  return a / divisor;
}
void start_endless_thread() {
  pthread_t thread;
  pthread_create(&thread, nullptr, [](void*) -> void* { spin(); }, nullptr);
  pthread_detach(thread);
}
void call_gate(unsigned number, unsigned long argument) {
  __asm__ volatile("syscall" : : "a"(number), "D"(argument) : "rcx", "r11", "memory");
}

// System calls with numbers and arguments that mean harm. `host` is an address of the host's.
int call_at_random(unsigned long seed, int count, unsigned long host) {
  static unsigned char buffer[4096];
  static char path[] = "/usr/lib/os-release";
  memset(buffer, 0, sizeof(buffer));
  auto next = [&] {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed;
  };
  for (int i = 0; i < count; ++i) {
    const unsigned long number = next() % 470;
    if (number == 60 || number == 231 || number == 15) continue;  // its end, by right
    if (number == 35 || number == 230 || number == 202) continue;  // it would wait
    unsigned long arguments[6];
    for (unsigned long& argument : arguments) {
      const unsigned long choices[] = {0, 1, 2, 3, next() % 64, ~0ul, ~0ul - next() % 4096, host,
                                       host & 0xffffffff, host & ~4095ul, 0x1'0000'0000 - 8, 4096,
                                       reinterpret_cast<unsigned long>(buffer),
                                       reinterpret_cast<unsigned long>(buffer) & ~4095ul,
                                       reinterpret_cast<unsigned long>(path), 1ul << 31, 1ul << 63,
                                       next(), 1ul << (next() % 64), 8, 24, 64};
      argument = choices[next() % (sizeof(choices) / sizeof(choices[0]))];
    }
    long result;
    register unsigned long r10 __asm__("r10") = arguments[3];
    register unsigned long r8 __asm__("r8") = arguments[4];
    register unsigned long r9 __asm__("r9") = arguments[5];
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(arguments[0]), "S"(arguments[1]), "d"(arguments[2]), "r"(r10),
                       "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
  }
  return count;
}
// What is in the registers that no argument comes in, as they are when the function begins.
unsigned long look_into_registers() {
  static unsigned char seen[8 * 32 + 8];
  __asm__ volatile(
      "vmovdqu %%ymm8, (%0); vmovdqu %%ymm9, 32(%0); vmovdqu %%ymm10, 64(%0); vmovdqu %%ymm11, 96(%0);"
      "vmovdqu %%ymm12, 128(%0); vmovdqu %%ymm13, 160(%0); vmovdqu %%ymm14, 192(%0);"
      "vmovdqu %%ymm15, 224(%0); movq %%mm0, 256(%0); emms"
      :
      : "r"(seen)
      : "memory");
  unsigned long bits = 0;
  for (const unsigned char byte : seen) bits |= byte;
  return bits;
}
// The registers of the x87 unit, in code of their own: whoever does not call this has none that knows them.
unsigned long look_into_x87() {
  unsigned long seen[8];
  __asm__ volatile(
      "movq %%mm0, (%0); movq %%mm1, 8(%0); movq %%mm2, 16(%0); movq %%mm3, 24(%0);"
      "movq %%mm4, 32(%0); movq %%mm5, 40(%0); movq %%mm6, 48(%0); movq %%mm7, 56(%0); emms"
      :
      : "r"(seen)
      : "memory");
  unsigned long bits = 0;
  for (const unsigned long word : seen) bits |= word;
  return bits;
}
unsigned long look_into_x87_when(int* started, const volatile int* go) {
  *static_cast<volatile int*>(started) = 1;
  while (*go == 0) {
  }
  return look_into_x87();
}
unsigned arithmetic_flags() { return __builtin_ia32_stmxcsr() & 0x3f; }
// How many words of the mask registers, and of the upper half of the vector registers, hold `secret` or its low
// half word. (What else they hold is the plugin's own: its C library uses them.)
unsigned long look_into_more_registers(unsigned long secret) {
  if (!__builtin_cpu_supports("avx512f")) return 0;
  static unsigned long seen[5 * 8 + 3];
  __asm__ volatile(
      "vmovdqu64 %%zmm16, (%0); vmovdqu64 %%zmm20, 64(%0); vmovdqu64 %%zmm27, 128(%0);"
      "vmovdqu64 %%zmm30, 192(%0); vmovdqu64 %%zmm31, 256(%0);"
      "kmovw %%k1, 320(%0); kmovw %%k3, 328(%0); kmovw %%k7, 336(%0)"
      :
      : "r"(seen)
      : "memory");
  unsigned long found = 0;
  for (const unsigned long word : seen) found += word == secret || word == (secret & 0xffff);
  return found;
}
// Keeps values in registers across a callback, as compilers do: none of them are vectors. [abi]
double call_back_often(double (*function)(double, int, double), int times) {
  double sum = 0;
  for (int i = 0; i < times; ++i) sum += function(i, i, sum);
  return sum;
}

// ---- callbacks

int call_back(int (*function)(int), int value) { return function(value) + 1; }
int call_back_in_thread(int (*function)(int)) {
  const auto main = [](void* called) -> void* {
    reinterpret_cast<int (*)(int)>(called)(1);
    return nullptr;
  };
  pthread_t thread;
  const int error = pthread_create(&thread, nullptr, main, reinterpret_cast<void*>(function));
  if (error == 0) pthread_detach(thread);
  return error;
}
double call_back_double(double (*function)(double, int, double), double value) {
  return function(value, 2, 0.5) + 1;
}
void* call_back_pointer(void* (*function)(void*), void* value) { return function(value); }
static jmp_buf outer;
// Two frames of the host's may lie between these.
int call_and_catch(void (*function)()) {
  if (setjmp(outer) != 0) return 1;
  function();
  return 0;
}
void jump_to_outer() { longjmp(outer, 1); }
}
