// Flags and floating-point modes that trip up a supervisor which takes them over: over system calls, faults and signals.
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "victim.h"

namespace {

using victim::Attempt;
using victim::Expect;
using victim::Outcome;

constexpr std::uint64_t kTrap = 0x100, kDirection = 0x400, kNested = 0x4000, kAlignment = 0x40000, kIdentification = 0x200000;

// push %rdx; popfq; syscall; pushfq; pop %rdx
constexpr std::string_view kOverCall{"\x52\x9d\x0f\x05\x9c\x5a", 6};
// push %rdx; popfq; ud2
constexpr std::string_view kOverFault{"\x52\x9d\x0f\x0b", 4};

char buffer[256];

void OverCalls() {
  for (const std::uint64_t flags : {kDirection, kNested, kAlignment, kIdentification, kDirection | kAlignment | kNested, 0x8d5ul}) {
    struct {
      long number;
      std::uint64_t a, b;
    } const calls[] = {{SYS_getpid, 0, 0},
                       {SYS_getcwd, reinterpret_cast<std::uint64_t>(buffer) + 1, 200},
                       {SYS_sched_yield, 0, 0},
                       {SYS_brk, 0, 0},
                       {100000, 0, 0}};
    for (const auto& call : calls) {
      const Outcome outcome = Attempt({.rax = static_cast<std::uint64_t>(call.number), .rdx = flags | 0x202, .rsi = call.b, .rdi = call.a}, kOverCall);
      Expect(outcome.signal == 0, "call %ld with flags 0x%lx: signal %d", call.number, flags, outcome.signal);
      if (outcome.signal == 0) {
        // NT may be gone: it means nothing in 64-bit code.
        Expect(((outcome.rdx ^ flags) & 0x240dd5) == 0, "call %ld: flags 0x%lx became 0x%lx", call.number, flags, outcome.rdx);
      }
    }
    const Outcome fault = Attempt({.rdx = flags | 0x202}, kOverFault);
    Expect(fault.signal == SIGILL && (fault.flags & 0x244dd5) == flags, "fault with flags 0x%lx: signal %d, flags 0x%lx", flags, fault.signal, fault.flags);
    victim::ExpectAlive("odd flags");
  }
}

void SingleSteps() {
  // The trap comes after the instruction behind POPF, which is the system call itself or a NOP before it.
  for (const std::string_view code : {kOverCall, std::string_view{"\x52\x9d\x90\x0f\x05", 5}, kOverFault, std::string_view{"\x52\x9d\xcc", 3}}) {
    const Outcome outcome = Attempt({.rax = SYS_getpid, .rdx = kTrap | 0x202}, code);
    Expect(outcome.signal == SIGTRAP || outcome.signal == SIGILL, "single step: signal %d", outcome.signal);
    Expect((outcome.rip >> 47) == 0 && outcome.rip < victim::kRuntimeHalf, "single step at 0x%lx", outcome.rip);
    victim::ExpectAlive("a single step");
  }
}

// All SSE and x87 exceptions unmasked, all pending, both stacks full: then system calls, which may compute.
void FloatingPoint() {
  std::uint32_t mxcsr = 0x003f;  // every flag set, every exception unmasked, rounding to nearest
  std::uint32_t after = 0;
  const std::uint32_t usual = 0x1f80;
  alignas(16) unsigned char before_state[512], after_state[512];
  std::memset(before_state, 0, sizeof(before_state));
  std::memset(after_state, 0, sizeof(after_state));
  long pid;
  __asm__ volatile(
      "fninit\n\tfld1\n\tfldpi\n\tfldl2e\n\tfldz\n\tfld1\n\tfldpi\n\tfldl2e\n\tfldlg2\n\t"
      "ldmxcsr %[mxcsr]\n\tfxsave %[before]\n\tmov $39, %%eax\n\tsyscall\n\tfxsave %[after_state]\n\tstmxcsr %[after]\n\t"
      "fninit\n\tldmxcsr %[usual]"
      : "=&a"(pid), [after] "=m"(after), [before] "=m"(before_state), [after_state] "=m"(after_state)
      : [mxcsr] "m"(mxcsr), [usual] "m"(usual)
      : "rcx", "r11", "memory", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
  Expect(pid == getpid(), "getpid with unmasked exceptions: %ld", pid);
  Expect(after == mxcsr, "MXCSR 0x%x became 0x%x", mxcsr, after);
  Expect(std::memcmp(before_state + 32, after_state + 32, 128) == 0, "the x87 stack changed");
  Expect(std::memcmp(before_state, after_state, 6) == 0, "x87 control, status or tags changed");
}

}  // namespace

int main() {
  victim::Begin("flags");
  OverCalls();
  SingleSteps();
  FloatingPoint();
  return victim::Verdict();
}
