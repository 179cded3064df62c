// Control registers, model-specific registers and RFLAGS: the bits Dunebox uses.
// [intel/vol3 §2.5, vol1 §3.4.3; amd/vol2 §3.1.7]
#ifndef DUNEBOX_LIBDUNE_X86_CONTROL_H_
#define DUNEBOX_LIBDUNE_X86_CONTROL_H_

#include <cstdint>

namespace dune::x86 {

constexpr std::uint64_t Bit(unsigned n) { return std::uint64_t{1} << n; }

namespace cr0 {
inline constexpr std::uint64_t kProtection = Bit(0);
inline constexpr std::uint64_t kMonitorCoprocessor = Bit(1);
inline constexpr std::uint64_t kExtensionType = Bit(4);
inline constexpr std::uint64_t kNumericError = Bit(5);
inline constexpr std::uint64_t kWriteProtect = Bit(16);
inline constexpr std::uint64_t kAlignmentMask = Bit(18);
inline constexpr std::uint64_t kPaging = Bit(31);
}  // namespace cr0

namespace cr4 {
inline constexpr std::uint64_t kPhysicalAddressExtension = Bit(5);
inline constexpr std::uint64_t kPageGlobal = Bit(7);
inline constexpr std::uint64_t kFxsave = Bit(9);
inline constexpr std::uint64_t kSimdExceptions = Bit(10);
inline constexpr std::uint64_t kUserModeInstructionPrevention = Bit(11);
inline constexpr std::uint64_t kFsgsbase = Bit(16);
inline constexpr std::uint64_t kProcessContext = Bit(17);  // PCIDs
inline constexpr std::uint64_t kXsave = Bit(18);
inline constexpr std::uint64_t kSmep = Bit(20);
inline constexpr std::uint64_t kSmap = Bit(21);
}  // namespace cr4

namespace efer {
inline constexpr std::uint64_t kSyscallEnable = Bit(0);
inline constexpr std::uint64_t kLongModeEnable = Bit(8);
inline constexpr std::uint64_t kLongModeActive = Bit(10);
inline constexpr std::uint64_t kNoExecuteEnable = Bit(11);
}  // namespace efer

namespace msr {
inline constexpr std::uint32_t kStar = 0xc000'0081;
inline constexpr std::uint32_t kLstar = 0xc000'0082;
inline constexpr std::uint32_t kCstar = 0xc000'0083;
inline constexpr std::uint32_t kSyscallMask = 0xc000'0084;
inline constexpr std::uint32_t kFsBase = 0xc000'0100;
inline constexpr std::uint32_t kGsBase = 0xc000'0101;
inline constexpr std::uint32_t kKernelGsBase = 0xc000'0102;
inline constexpr std::uint32_t kSysenterCode = 0x174;
inline constexpr std::uint32_t kSysenterStack = 0x175;
inline constexpr std::uint32_t kSysenterEntry = 0x176;
}  // namespace msr

namespace rflags {
inline constexpr std::uint64_t kCarry = Bit(0);
inline constexpr std::uint64_t kReserved1 = Bit(1);  // always set
inline constexpr std::uint64_t kParity = Bit(2);
inline constexpr std::uint64_t kAdjust = Bit(4);
inline constexpr std::uint64_t kZero = Bit(6);
inline constexpr std::uint64_t kSign = Bit(7);
inline constexpr std::uint64_t kTrap = Bit(8);
inline constexpr std::uint64_t kInterrupt = Bit(9);
inline constexpr std::uint64_t kDirection = Bit(10);
inline constexpr std::uint64_t kOverflow = Bit(11);
inline constexpr std::uint64_t kNestedTask = Bit(14);
inline constexpr std::uint64_t kResume = Bit(16);
inline constexpr std::uint64_t kAlignmentCheck = Bit(18);
inline constexpr std::uint64_t kIdentification = Bit(21);

// What a program may set for itself, as Linux's FIX_EFLAGS. [linux]
inline constexpr std::uint64_t kUserSettable = kCarry | kParity | kAdjust | kZero | kSign | kTrap |
                                               kDirection | kOverflow | kResume | kAlignmentCheck;
// What ring 3 runs with, whatever it asked for.
constexpr std::uint64_t ForUser(std::uint64_t wanted) {
  return (wanted & (kUserSettable | kIdentification)) | kReserved1 | kInterrupt;
}
// Cleared by SYSCALL on entry: nothing of the guest's may act in ring 0.
inline constexpr std::uint64_t kSyscallClear =
    kTrap | kInterrupt | kDirection | kNestedTask | kResume | kAlignmentCheck | kCarry | kParity |
    kAdjust | kZero | kSign | kOverflow | (Bit(12) | Bit(13));  // IOPL
}  // namespace rflags

// Exceptions. [intel/vol3 table 6-1]
enum class Vector : std::uint8_t {
  kDivideError = 0,
  kDebug = 1,
  kNonMaskable = 2,
  kBreakpoint = 3,
  kOverflow = 4,
  kBoundRange = 5,
  kInvalidOpcode = 6,
  kDeviceNotAvailable = 7,
  kDoubleFault = 8,
  kInvalidTss = 10,
  kSegmentNotPresent = 11,
  kStackFault = 12,
  kGeneralProtection = 13,
  kPageFault = 14,
  kFloatingPoint = 16,
  kAlignmentCheck = 17,
  kMachineCheck = 18,
  kSimdFloatingPoint = 19,
  kVirtualization = 20,
  kControlProtection = 21,
};

namespace page_fault {
inline constexpr std::uint64_t kPresent = Bit(0);
inline constexpr std::uint64_t kWrite = Bit(1);
inline constexpr std::uint64_t kUser = Bit(2);
inline constexpr std::uint64_t kReservedBit = Bit(3);
inline constexpr std::uint64_t kInstruction = Bit(4);
inline constexpr std::uint64_t kProtectionKey = Bit(5);
}  // namespace page_fault

}  // namespace dune::x86

#endif  // DUNEBOX_LIBDUNE_X86_CONTROL_H_
