// For a debugger (guest_debugger): one thread computes in ring 0, another sleeps in a system call, until the debugger has
// written into `debugger_word`.
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <string>
#include <thread>

#include "dune/dune.h"
#include "tests/libdune/ring0/expect.h"

extern "C" {
std::atomic<int> debugger_word{0};
std::atomic<int> turns{0};

[[gnu::noinline]] void debugged_inner(std::uint64_t secret) {
  while (debugger_word == 0) {
    asm volatile("" : : "r"(secret) : "memory");
    turns.fetch_add(1);
    asm volatile(".globl debugged_spot\ndebugged_spot: nop" ::: "memory");
  }
}
[[gnu::noinline]] void debugged_outer(std::uint64_t secret) {
  debugged_inner(secret + 1);
  asm volatile("" ::: "memory");
}
[[gnu::noinline]] void debugged_sleeper() {
  while (debugger_word == 0) sleep(1);
  asm volatile("" ::: "memory");
}
}

int main() {
  EnterRing0();
  alarm(100);  // no debugger came
  std::thread sleeper(debugged_sleeper);
  std::puts("ready");
  std::fflush(stdout);
  debugged_outer(41);
  sleeper.join();
  std::printf("the debugger wrote %d\n", debugger_word.load());
  return dune::CurrentBackend() == dune::Backend::kRing0 ? 0 : 1;
}
