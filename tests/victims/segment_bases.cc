// FS and GS bases that point at the runtime, the kernel or nowhere, while system calls, faults and signals go on.
#include <asm/prctl.h>
#include <sys/syscall.h>

#include "victim.h"

namespace {

using victim::Attempt;
using victim::Expect;
using victim::Outcome;

// Keeps FS in R12, sets it from RDI, calls getpid, reads it back to RDX, restores it.
//   rdfsbase %r12; wrfsbase %rdi; mov $39, %eax; syscall; rdfsbase %rdx; wrfsbase %r12
constexpr std::string_view kFsOverCall{"\xf3\x49\x0f\xae\xc4\xf3\x48\x0f\xae\xd7\xb8\x27\x00\x00\x00\x0f\x05\xf3\x48\x0f\xae\xc2\xf3\x49\x0f\xae\xd4", 27};
//   wrgsbase %rdi; mov $39, %eax; syscall; rdgsbase %rdx
constexpr std::string_view kGsOverCall{"\xf3\x48\x0f\xae\xdf\xb8\x27\x00\x00\x00\x0f\x05\xf3\x48\x0f\xae\xca", 17};
//   wrfsbase %rdi; mov %fs:0, %rax (the handler restores FS)
constexpr std::string_view kFsRead{"\xf3\x48\x0f\xae\xd7\x64\x48\x8b\x04\x25\x00\x00\x00\x00", 14};
constexpr std::string_view kGsRead{"\xf3\x48\x0f\xae\xdf\x65\x48\x8b\x04\x25\x00\x00\x00\x00", 14};
//   wrfsbase %rdi; ud2: a fault that has nothing to do with it
constexpr std::string_view kFsFault{"\xf3\x48\x0f\xae\xd7\x0f\x0b", 7};

bool Canonical(std::uint64_t address) {
  const std::uint64_t top = address >> 47;
  return top == 0 || top == 0x1ffff;
}

void Registers(std::uint64_t base) {
  for (const std::string_view code : {kFsOverCall, kGsOverCall}) {
    const Outcome outcome = Attempt({.rdi = base}, code);
    if (base >= victim::kWindowEnd && outcome.signal == SIGSEGV) continue;  // engine jit takes only bases of the program's
    if (Canonical(base)) {
      Expect(outcome.signal == 0 && outcome.rdx == base, "base 0x%lx over a system call: signal %d, read 0x%lx", base, outcome.signal, outcome.rdx);
    } else {
      // QEMU's emulation lets WRFSBASE pass; then the accesses below have to fail.
      Expect(outcome.signal == SIGSEGV || outcome.signal == 0, "base 0x%lx: signal %d", base, outcome.signal);
    }
  }
  for (const std::string_view code : {kFsRead, kGsRead, kFsFault}) {
    const Outcome outcome = Attempt({.rdi = base}, code);
    Expect(outcome.refused(), "an access with base 0x%lx: signal %d", base, outcome.signal);
  }
  victim::ExpectAlive("an odd segment base");
}

void ByCall(std::uint64_t base) {
  const long result = victim::Call(SYS_arch_prctl, ARCH_SET_GS, base);
  std::uint64_t now = 1;
  Expect(victim::Call(SYS_arch_prctl, ARCH_GET_GS, reinterpret_cast<std::uint64_t>(&now)) == 0, "ARCH_GET_GS fails");
  Expect(result < 0 || now == base, "ARCH_SET_GS 0x%lx gives 0x%lx", base, now);
  Expect(result < 0 || base < 0x800000000000, "ARCH_SET_GS accepts 0x%lx", base);
  // FS: straight back, with nothing between that uses it.
  //   rdfsbase %r12; mov $158, %eax; mov $0x1002, %edi; syscall; wrfsbase %r12
  const Outcome outcome = Attempt({.rsi = base}, {"\xf3\x49\x0f\xae\xc4\xb8\x9e\x00\x00\x00\xbf\x02\x10\x00\x00\x0f\x05\xf3\x49\x0f\xae\xd4", 22});
  Expect(outcome.signal == 0, "ARCH_SET_FS 0x%lx: signal %d", base, outcome.signal);
  Expect(victim::Call(SYS_arch_prctl, ARCH_GET_FS, base) < 0, "ARCH_GET_FS wrote to 0x%lx", base);
  victim::Call(SYS_arch_prctl, ARCH_SET_GS, 0);
  victim::ExpectAlive("arch_prctl");
}

}  // namespace

int main() {
  victim::Begin("segment_bases");
  std::uint64_t addresses[32];
  const std::size_t count = victim::ForbiddenAddresses(addresses, 32);
  for (std::size_t i = 0; i < count; ++i) {
    Registers(addresses[i]);
    ByCall(addresses[i]);
  }
  for (const long code : {0l, 0x1000l, 0x1005l, 0x1011l, 0x1012l, 0x1021l, 0x2001l, 0x2003l, 0x3001l, 0x4001l, 0x5001l, -1l}) {
    victim::Call(SYS_arch_prctl, static_cast<std::uint64_t>(code), victim::kRuntimeHalf);
    victim::ExpectAlive("an odd arch_prctl");
  }
  return victim::Verdict();
}
