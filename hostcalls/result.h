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

  // Not an errno: what a failed step carries up when the whole call has to be made again. Larger
  // than any number the kernel gives back, so no result of its own is taken for it.
  static constexpr int kRestart = 1 << 20;
};

class [[nodiscard]] SyscallResult {
 public:
  constexpr SyscallResult(Errno error)  // NOLINT
      : raw_(-static_cast<std::int64_t>(error.value)),
        meaning_(error.value == Errno::kRestart ? Meaning::kRestart : Meaning::kRegister) {}
  constexpr explicit SyscallResult(std::int64_t value) : raw_(value) {}

  // The kernel's convention: -4095..-1 is an errno. Whatever the number is, it is one: F_GETOWN
  // answers for process group 512 with -512.
  static constexpr SyscallResult FromKernel(std::int64_t raw) { return SyscallResult(raw); }
  // The call has to be executed again after the pending signal's handler.
  static constexpr SyscallResult Restart() { return Errno{Errno::kRestart}; }
  // A handler has already set every register (rt_sigreturn, execve).
  static constexpr SyscallResult RegistersSet() {
    SyscallResult result{std::int64_t{0}};
    result.meaning_ = Meaning::kRegistersSet;
    return result;
  }

  constexpr bool ok() const {
    return meaning_ == Meaning::kRegister && (raw_ < -4095 || raw_ >= 0);
  }
  constexpr bool is_restart() const { return meaning_ == Meaning::kRestart; }
  constexpr bool is_registers_set() const { return meaning_ == Meaning::kRegistersSet; }
  // 0 when ok; Errno::kRestart for a restart.
  constexpr int error() const { return ok() ? 0 : static_cast<int>(-raw_); }
  constexpr std::int64_t value() const { return raw_; }
  constexpr std::uint64_t ToRegister() const { return static_cast<std::uint64_t>(raw_); }

 private:
  // Beside the number, not in it: every number is one that a call may give back.
  enum class Meaning : std::uint8_t { kRegister, kRestart, kRegistersSet };
  std::int64_t raw_;
  Meaning meaning_ = Meaning::kRegister;
};

inline constexpr SyscallResult kSuccess{std::int64_t{0}};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_RESULT_H_
