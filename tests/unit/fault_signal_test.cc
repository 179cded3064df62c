#include <gtest/gtest.h>
#include <signal.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "runtime/process/signal_delivery.h"

namespace dunebox::process {
namespace {

using dune::x86::Vector;
namespace page_fault = dune::x86::page_fault;

constexpr std::uint64_t kRip = 0x40'1234;
constexpr std::uint64_t kAddress = 0xdead'b000;

siginfo_t Of(Vector vector, std::uint64_t error_code = 0, bool memory_error = false) {
  return SignalOfFault({.vector = vector,
                        .error_code = error_code,
                        .address = kAddress,
                        .memory_error = memory_error},
                       kRip, {});
}

TEST(FaultSignal, EachExceptionIsLinuxsSignal) {
  struct Case {
    Vector vector;
    int signal, code;
    std::uint64_t address;
  };
  const Case cases[] = {
      {Vector::kDivideError, SIGFPE, FPE_INTDIV, kRip},
      {Vector::kDebug, SIGTRAP, TRAP_TRACE, kRip},
      {Vector::kBreakpoint, SIGTRAP, SI_KERNEL, 0},
      {Vector::kOverflow, SIGSEGV, SI_KERNEL, 0},
      {Vector::kBoundRange, SIGSEGV, SI_KERNEL, 0},
      {Vector::kInvalidOpcode, SIGILL, ILL_ILLOPN, kRip},
      {Vector::kSegmentNotPresent, SIGBUS, SI_KERNEL, 0},
      {Vector::kStackFault, SIGBUS, SI_KERNEL, 0},
      {Vector::kGeneralProtection, SIGSEGV, SI_KERNEL, 0},
      {Vector::kPageFault, SIGSEGV, SEGV_MAPERR, kAddress},
      {Vector::kAlignmentCheck, SIGBUS, BUS_ADRALN, 0},
      // What a program cannot cause counts as a general protection fault.
      {Vector::kDeviceNotAvailable, SIGSEGV, SI_KERNEL, 0},
      {Vector::kDoubleFault, SIGSEGV, SI_KERNEL, 0},
      {Vector::kControlProtection, SIGSEGV, SI_KERNEL, 0},
      {static_cast<Vector>(255), SIGSEGV, SI_KERNEL, 0},
  };
  for (const Case& c : cases) {
    const siginfo_t info = Of(c.vector);
    EXPECT_EQ(info.si_signo, c.signal) << static_cast<int>(c.vector);
    EXPECT_EQ(info.si_code, c.code) << static_cast<int>(c.vector);
    EXPECT_EQ(info.si_errno, 0);
    EXPECT_EQ(reinterpret_cast<std::uint64_t>(info.si_addr), c.address)
        << static_cast<int>(c.vector);
  }
}

TEST(FaultSignal, APageFaultSaysWhatWasWrong) {
  EXPECT_EQ(Of(Vector::kPageFault, page_fault::kUser).si_code, SEGV_MAPERR);
  EXPECT_EQ(Of(Vector::kPageFault, page_fault::kUser | page_fault::kPresent).si_code, SEGV_ACCERR);
  for (const std::uint64_t code : {page_fault::kUser, page_fault::kUser | page_fault::kPresent}) {
    const siginfo_t info = Of(Vector::kPageFault, code, /*memory_error=*/true);
    EXPECT_EQ(info.si_signo, SIGBUS);
    EXPECT_EQ(info.si_code, BUS_ADRERR);
    EXPECT_EQ(reinterpret_cast<std::uint64_t>(info.si_addr), kAddress);
  }
}

// The legacy XSAVE area with one of the floating-point units' state words.
int X87Code(std::uint16_t control, std::uint16_t status) {
  std::array<std::byte, 512> area{};
  std::memcpy(area.data(), &control, 2);
  std::memcpy(area.data() + 2, &status, 2);
  return SignalOfFault({.vector = Vector::kFloatingPoint}, kRip, area).si_code;
}
int SimdCode(std::uint32_t mxcsr) {
  std::array<std::byte, 512> area{};
  std::memcpy(area.data() + 24, &mxcsr, 4);
  return SignalOfFault({.vector = Vector::kSimdFloatingPoint}, kRip, area).si_code;
}

TEST(FaultSignal, AFloatingPointExceptionIsTheUnmaskedOne) {
  struct Case {
    unsigned flag;
    int code;
  };
  const Case cases[] = {{0x01, FPE_FLTINV}, {0x02, FPE_FLTUND}, {0x04, FPE_FLTDIV},
                        {0x08, FPE_FLTOVF}, {0x10, FPE_FLTUND}, {0x20, FPE_FLTRES}};
  for (const Case& c : cases) {
    const unsigned others = 0x3f & ~c.flag;
    EXPECT_EQ(X87Code(static_cast<std::uint16_t>(others), 0x3f), c.code) << c.flag;
    EXPECT_EQ(SimdCode((others << 7) | 0x3f), c.code) << c.flag;
  }
  EXPECT_EQ(X87Code(0x3f, 0x3f), FPE_FLTUNK);  // all masked
  EXPECT_EQ(SimdCode(0x1f80 | 0x3f), FPE_FLTUNK);
  EXPECT_EQ(X87Code(0, 0x05), FPE_FLTINV);  // the first of several
  for (const Vector vector : {Vector::kFloatingPoint, Vector::kSimdFloatingPoint}) {
    const siginfo_t info = Of(vector);  // without a state
    EXPECT_EQ(info.si_signo, SIGFPE);
    EXPECT_EQ(info.si_code, FPE_FLTUNK);
    EXPECT_EQ(reinterpret_cast<std::uint64_t>(info.si_addr), kRip);
  }
}

}  // namespace
}  // namespace dunebox::process
