// A library that calls the host's first callback while it is loaded.
#include "sandbox/plugin/guest/gates.h"

namespace {
__attribute__((constructor)) void CallBack() {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(DUNEBOX_GATE_CALLBACK), "D"(1l) : "rcx", "r11", "memory");
}
}  // namespace

extern "C" int add(int a, int b) { return a + b; }
