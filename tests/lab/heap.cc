// The end of the heap, moved up and down in an order that a seed decides, against a model of every page: what is
// below it is there, empty when it comes and as it was left afterwards, and what is above it faults. System calls
// get its pages as buffers, /proc/self/maps tells of it, a forked child and another thread go on with it.
//
//   heap [STEPS [SEED]]
//
// Says nothing and exits 0 when all is well, natively as in the sandbox.
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kPages = 300;

[[noreturn]] void Fail(const char* what, std::uint64_t a = 0, std::uint64_t b = 0) {
  fprintf(stderr, "wrong: %s (0x%lx, 0x%lx, errno %d)\n", what, a, b, errno);
  _exit(1);
}

std::uint64_t random_state = 1;
std::uint64_t Below(std::uint64_t limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state % limit;
}

// Of libc's own heap nothing moves meanwhile: nobody allocates.
std::uint64_t base = 0, end = 0;
std::uint64_t values[kPages];
int ends[2];

std::uint64_t Brk(std::uint64_t address) {
  return static_cast<std::uint64_t>(syscall(SYS_brk, address));
}
std::uint64_t PageUp(std::uint64_t address) { return (address + kPage - 1) & ~(kPage - 1); }
std::uint64_t At(std::uint64_t page) { return base + page * kPage; }
bool IsThere(std::uint64_t page) { return At(page) < PageUp(end); }

sigjmp_buf escape;
void OnFault(int, siginfo_t*, void*) { siglongjmp(escape, 1); }

void Touch(std::uint64_t page) {
  auto& word = *reinterpret_cast<volatile std::uint64_t*>(At(page));
  if (sigsetjmp(escape, 1) == 0) {
    const std::uint64_t seen = word;
    if (!IsThere(page)) Fail("memory above the end of the heap", At(page), end);
    if (seen != values[page]) Fail("another content", seen, values[page]);
    word = values[page] = Below(~std::uint64_t{0});
  } else if (IsThere(page)) {
    Fail("the heap is not there", At(page), end);
  }
}

void Move() {
  const std::uint64_t to = base + Below(kPages * kPage);
  if (Brk(to) != to) Fail("brk", to, end);
  if (Brk(0) != to) Fail("brk as a question", to);
  end = to;
  for (std::uint64_t page = 0; page < kPages; ++page) {
    if (!IsThere(page)) values[page] = 0;
  }
}

void WriteAndRead(std::uint64_t page) {
  const bool there = IsThere(page);
  auto* const word = reinterpret_cast<void*>(At(page));
  const ssize_t written = write(ends[1], word, 8);
  if (there ? written != 8 : (written != -1 || errno != EFAULT)) Fail("write", At(page), there);
  if (!there) return;
  std::uint64_t seen = 0;
  if (read(ends[0], &seen, 8) != 8 || seen != values[page]) Fail("read", seen, values[page]);
}

void CompareMaps() {
  static char text[1 << 16];
  const int maps = open("/proc/self/maps", O_RDONLY);  // fopen takes memory from the heap
  std::size_t length = 0;
  for (ssize_t bytes; (bytes = read(maps, text + length, sizeof(text) - 1 - length)) > 0;) {
    length += static_cast<std::size_t>(bytes);
  }
  close(maps);
  text[length] = '\0';
  const char* name = strstr(text, "[heap]");
  // One mapping or several: the last.
  for (const char* next = name; next != nullptr; next = strstr(next + 1, "[heap]")) name = next;
  if (end <= base) return;
  if (name == nullptr) Fail("maps tells of no heap", end);
  while (name > text && name[-1] != '\n') --name;
  std::uint64_t first = 0, last = 0;
  if (sscanf(name, "%lx-%lx", &first, &last) != 2 || last != PageUp(end)) Fail("maps", last, end);
}

void Steps(long steps);
void* InThread(void*) {
  Steps(20);
  return nullptr;
}

void Steps(long steps) {
  for (long step = 0; step < steps; ++step) {
    const std::uint64_t what = Below(1000);
    if (what < 300) Move();
    if (what >= 300 && what < 950) Touch(Below(kPages));
    if (what >= 950) WriteAndRead(Below(kPages));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const long steps = argc > 1 ? atol(argv[1]) : 2000;
  random_state = argc > 2 ? static_cast<std::uint64_t>(atol(argv[2])) : 1;
  struct sigaction action{};
  action.sa_sigaction = OnFault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  static char stack[1 << 16];
  const stack_t alternate{.ss_sp = stack, .ss_flags = 0, .ss_size = sizeof(stack)};
  if (pipe(ends) != 0 || sigaltstack(&alternate, nullptr) != 0 || sigaction(SIGSEGV, &action, nullptr) != 0) {
    Fail("at the start");
  }
  // What libc needs of its heap for threads it takes first.
  pthread_t thread;
  if (pthread_create(&thread, nullptr, [](void* none) { return none; }, nullptr) != 0) Fail("pthread_create");
  pthread_join(thread, nullptr);
  base = end = PageUp(Brk(0));
  if (Brk(base) != base) Fail("brk");

  Steps(steps);
  CompareMaps();
  if (pthread_create(&thread, nullptr, InThread, nullptr) != 0) Fail("pthread_create");
  pthread_join(thread, nullptr);
  CompareMaps();
  const pid_t child = fork();
  if (child == 0) {
    Steps(steps / 4);
    CompareMaps();
    _exit(0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || status != 0) Fail("a child");
  Steps(steps / 4);
  return 0;
}
