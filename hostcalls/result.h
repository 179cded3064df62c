// What a system call gives back, and the one place where it becomes a register.
//
// `Errno` is the guest's fault; absl::Status is the host's; CHECK is ours. A
// `SyscallResult` is a value, an Errno, or "restart": a signal came before
// the host kernel did anything, so the guest must execute the call again.
//
//   if (!memory.Contains(range)) return Errno{EFAULT};
//   return SyscallResult(bytes);
#ifndef DUNEBOX_HOSTCALLS_RESULT_H_
#define DUNEBOX_HOSTCALLS_RESULT_H_

#include <cerrno>
#include <cstdint>

namespace dunebox::hostcalls {

struct Errno {
  int value;
};

class [[nodiscard]] SyscallResult {
 public:
  constexpr SyscallResult(Errno error) : raw_(-static_cast<std::int64_t>(error.value)) {}  // NOLINT
  constexpr explicit SyscallResult(std::int64_t value) : raw_(value) {}

  // The kernel's convention: -4095..-1 is an errno.
  static constexpr SyscallResult FromKernel(std::int64_t raw) { return SyscallResult(raw); }
  // The call has to be executed again after the pending signal's handler.
  static constexpr SyscallResult Restart() { return SyscallResult(kRestartValue); }
  // A handler has already set every register (rt_sigreturn, execve).
  static constexpr SyscallResult RegistersSet() { return SyscallResult(kRegistersSetValue); }

  constexpr bool ok() const { return raw_ < -4095 || raw_ >= 0; }
  constexpr bool is_restart() const { return raw_ == kRestartValue; }
  constexpr bool is_registers_set() const { return raw_ == kRegistersSetValue; }
  constexpr int error() const { return ok() ? 0 : static_cast<int>(-raw_); }
  constexpr std::int64_t value() const { return raw_; }
  constexpr std::uint64_t ToRegister() const { return static_cast<std::uint64_t>(raw_); }

 private:
  // Inside -4095..-1, but no errno of the kernel reaches user space with these (ERESTARTSYS and
  // friends are 512..516 and internal to it).
  static constexpr std::int64_t kRestartValue = -512;
  static constexpr std::int64_t kRegistersSetValue = -517;
  std::int64_t raw_;
};

inline constexpr SyscallResult kSuccess{std::int64_t{0}};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_RESULT_H_
