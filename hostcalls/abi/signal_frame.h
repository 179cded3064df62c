// Signal frames in the kernel's ABI, as memory: both the host and the guest's ring 0 write and read them.
// [linux] arch/x86/include/uapi/asm/{sigcontext,ucontext}.h
//
//   SignalFrame frame{.return_address = restorer, ...};
#ifndef DUNEBOX_HOSTCALLS_ABI_SIGNAL_FRAME_H_
#define DUNEBOX_HOSTCALLS_ABI_SIGNAL_FRAME_H_

#include <signal.h>

#include <cstddef>
#include <cstdint>

namespace dunebox::abi {

// stack_t as on x86-64.
struct AlternateStack {
  std::uint64_t base = 0;
  std::int32_t flags = SS_DISABLE;
  std::uint32_t padding = 0;
  std::uint64_t size = 0;

  bool enabled() const { return (flags & SS_DISABLE) == 0; }
  bool operator==(const AlternateStack&) const = default;
  bool Contains(std::uint64_t address) const { return address > base && address - base <= size; }
};
static_assert(sizeof(AlternateStack) == 24 && offsetof(AlternateStack, size) == 16);

// struct sigcontext_64.
struct SignalContext {
  std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  std::uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
  std::uint16_t cs, gs, fs, ss;
  std::uint64_t error_code, trap_number, old_mask, cr2;
  std::uint64_t extended_state;
  std::uint64_t reserved[8];
};
static_assert(sizeof(SignalContext) == 256);
static_assert(offsetof(SignalContext, rdi) == 64 && offsetof(SignalContext, rip) == 128);
static_assert(offsetof(SignalContext, cs) == 144 && offsetof(SignalContext, cr2) == 176);
static_assert(offsetof(SignalContext, extended_state) == 184);

struct UserContext {
  std::uint64_t flags;
  std::uint64_t link;
  AlternateStack stack;
  SignalContext context;
  std::uint64_t mask;
};
static_assert(sizeof(UserContext) == 304 && offsetof(UserContext, context) == 40);

struct SignalFrame {
  std::uint64_t return_address;
  UserContext user;
  siginfo_t info;
};
static_assert(sizeof(SignalFrame) == 440 && offsetof(SignalFrame, info) == 312);

inline constexpr std::uint64_t kRedZone = 128;  // [abi §3.2.2]
// UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
inline constexpr std::uint64_t kContextFlags = 0x7;

inline constexpr std::uint32_t kMagic1 = 0x46505853;
inline constexpr std::uint32_t kMagic2 = 0x46505845;  // behind the XSAVE area

// The 48 bytes of the legacy area that hardware leaves to software. [linux] struct _fpx_sw_bytes
struct SoftwareReserved {
  std::uint32_t magic1;
  std::uint32_t extended_size;  // the whole area with magic2
  std::uint64_t features;
  std::uint32_t state_size;
  std::uint32_t padding[7];
};
static_assert(sizeof(SoftwareReserved) == 48);
inline constexpr std::size_t kSoftwareReservedOffset = 464;
inline constexpr std::size_t kMxcsrOffset = 24;
inline constexpr std::uint32_t kMxcsrMask = 0xffff;
inline constexpr std::uint16_t kInitialControl = 0x37f;  // of x87, the area's first word
inline constexpr std::uint32_t kInitialMxcsr = 0x1f80;
inline constexpr std::size_t kHeaderOffset = 512;
inline constexpr std::size_t kHeaderSize = 64;
inline constexpr std::uint64_t kLegacyFeatures = 3;  // x87, SSE: always count as present in a frame

// The header that follows the legacy area. [intel/vol1 §13.4.2]
struct ExtendedHeader {
  std::uint64_t present;  // XSTATE_BV
  std::uint64_t compact;  // XCOMP_BV: 0 in the standard format
  std::uint64_t reserved[6];
};
static_assert(sizeof(ExtendedHeader) == kHeaderSize);

// Where the XSAVE area goes with its magic word behind, and the frame below it, from a stack's top down.
constexpr std::uint64_t ExtendedStatePlace(std::uint64_t top, std::uint64_t state_size) {
  return (top - (state_size + sizeof(kMagic2))) & ~std::uint64_t{63};
}
constexpr std::uint64_t FramePlace(std::uint64_t extended_state) {
  return ((extended_state - sizeof(SignalFrame)) & ~std::uint64_t{15}) - sizeof(std::uint64_t);
}

}  // namespace dunebox::abi

#endif  // DUNEBOX_HOSTCALLS_ABI_SIGNAL_FRAME_H_
