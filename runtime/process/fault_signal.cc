// The table from exceptions to signals.
#include <array>
#include <cstring>

#include "runtime/process/signal_delivery.h"

namespace dunebox::process {
namespace {

using dune::x86::Vector;

enum class AddressIs : std::uint8_t { kZero, kRip, kFaultAddress };

struct FaultSignal {
  Vector vector;
  int signal;
  int code;
  AddressIs address;
};

// [linux] arch/x86/kernel/traps.c. What is not listed is a general protection fault.
constexpr FaultSignal kFaultSignals[] = {
    {Vector::kDivideError, SIGFPE, FPE_INTDIV, AddressIs::kRip},
    {Vector::kDebug, SIGTRAP, TRAP_TRACE, AddressIs::kRip},
    {Vector::kBreakpoint, SIGTRAP, SI_KERNEL, AddressIs::kZero},
    {Vector::kOverflow, SIGSEGV, SI_KERNEL, AddressIs::kZero},
    {Vector::kBoundRange, SIGSEGV, SI_KERNEL, AddressIs::kZero},
    {Vector::kInvalidOpcode, SIGILL, ILL_ILLOPN, AddressIs::kRip},
    {Vector::kSegmentNotPresent, SIGBUS, SI_KERNEL, AddressIs::kZero},
    {Vector::kStackFault, SIGBUS, SI_KERNEL, AddressIs::kZero},
    {Vector::kGeneralProtection, SIGSEGV, SI_KERNEL, AddressIs::kZero},
    {Vector::kPageFault, SIGSEGV, SEGV_MAPERR, AddressIs::kFaultAddress},
    {Vector::kFloatingPoint, SIGFPE, 0, AddressIs::kRip},
    {Vector::kAlignmentCheck, SIGBUS, BUS_ADRALN, AddressIs::kZero},
    {Vector::kSimdFloatingPoint, SIGFPE, 0, AddressIs::kRip},
};

constexpr FaultSignal kOtherwise = {Vector::kGeneralProtection, SIGSEGV, SI_KERNEL,
                                    AddressIs::kZero};

FaultSignal Find(Vector vector) {
  for (const FaultSignal& row : kFaultSignals) {
    if (row.vector == vector) return row;
  }
  return kOtherwise;
}

// Which of the unmasked floating-point exceptions happened; x87 status and control word and MXCSR
// have the same order of flags. [intel/vol1 §8.5, §11.5.2]
int FloatingPointCode(Vector vector, std::span<const std::byte> area) {
  if (area.size() < 32) return FPE_FLTUNK;
  std::uint32_t flags = 0;
  std::uint32_t masks = 0;
  if (vector == Vector::kFloatingPoint) {
    std::array<std::uint16_t, 2> words;  // control, status
    std::memcpy(words.data(), area.data(), sizeof(words));
    masks = words[0];
    flags = words[1];
  } else {
    std::uint32_t mxcsr;
    std::memcpy(&mxcsr, area.data() + 24, sizeof(mxcsr));
    masks = mxcsr >> 7;
    flags = mxcsr;
  }
  const std::uint32_t raised = flags & ~masks & 0x3f;
  if ((raised & 0x01) != 0) return FPE_FLTINV;
  if ((raised & 0x04) != 0) return FPE_FLTDIV;
  if ((raised & 0x08) != 0) return FPE_FLTOVF;
  if ((raised & 0x12) != 0) return FPE_FLTUND;  // denormal operand or underflow
  if ((raised & 0x20) != 0) return FPE_FLTRES;
  return FPE_FLTUNK;
}

}  // namespace

siginfo_t SignalOfFault(const runtime::Fault& fault, std::uint64_t rip,
                        std::span<const std::byte> extended_state) {
  const FaultSignal row = Find(fault.vector);
  siginfo_t info{};
  info.si_signo = row.signal;
  info.si_code = row.code;
  if (row.address == AddressIs::kRip) info.si_addr = reinterpret_cast<void*>(rip);
  if (row.address == AddressIs::kFaultAddress) {
    info.si_addr = reinterpret_cast<void*>(fault.address);
    if ((fault.error_code & dune::x86::page_fault::kPresent) != 0) info.si_code = SEGV_ACCERR;
    if (fault.memory_error) {
      info.si_signo = SIGBUS;
      info.si_code = BUS_ADRERR;
    }
  }
  if (row.code == 0) info.si_code = FloatingPointCode(fault.vector, extended_state);
  return info;
}

}  // namespace dunebox::process
