#include "hostcalls/services/process_misc.h"

#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <span>

#include "hostcalls/services/limits.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

enum class PrctlAction : unsigned char {
  kForward,
  kForwardOut,
  kGetDumpable,
  kSetDumpable,
  kGetName,
  kSetName,
  kZero,
  kPermission,
};

struct PrctlOption {
  int number;
  PrctlAction action;
};

constexpr PrctlOption kOptions[] = {
#define PRCTL(number, name, action, why) {number, PrctlAction::action},
#include "hostcalls/services/prctls.inc"
#undef PRCTL
};

constexpr std::size_t kNameSize = 16;  // TASK_COMM_LEN, the NUL included [linux]

SyscallResult ForwardOut(Caller& caller, ArgumentValues values) {
  const std::uint64_t address = values[1];
  if (!caller.memory.Contains(address, sizeof(int))) return Errno{EFAULT};
  int answer = 0;
  values[1] = AsArgument(&answer);
  const SyscallResult result = RuntimeCall(caller, SYS_prctl, values);
  if (!result.ok()) return result;
  const SyscallResult written = caller.memory.CopyOut(GuestPtr<int>{address}, answer);
  return written.ok() ? result : written;
}

SyscallResult SetDumpable(Caller& caller, std::uint64_t value) {
  if (value > 1) return Errno{EINVAL};
  caller.limits.dumpable.store(static_cast<int>(value), std::memory_order_relaxed);
  return kSuccess;
}

// A longer name is cut off. Read byte by byte: a short one may end where the memory does.
SyscallResult SetName(Caller& caller, std::uint64_t address) {
  std::array<char, kNameSize> name{};
  for (std::size_t i = 0; i + 1 < name.size(); ++i) {
    const auto byte = std::as_writable_bytes(std::span(name).subspan(i, 1));
    if (!caller.memory.Read(address + i, byte)) return Errno{EFAULT};
    if (name[i] == '\0') break;
  }
  return RuntimeCall(caller, SYS_prctl, Arguments(PR_SET_NAME, name.data()));
}

SyscallResult GetName(Caller& caller, std::uint64_t address) {
  std::array<char, kNameSize> name{};
  const SyscallResult result = RuntimeCall(caller, SYS_prctl, Arguments(PR_GET_NAME, name.data()));
  if (!result.ok()) return result;
  return caller.memory.Write(address, std::as_bytes(std::span(name))) ? result : Errno{EFAULT};
}

// A query whose answer of `size` bytes goes to the guest; or, when the kernel reads it, comes from
// there.
template <typename T>
SyscallResult SeccompQuery(Caller& caller, const ArgumentValues& arguments) {
  T value{};
  const auto bytes = std::as_writable_bytes(std::span(&value, 1));
  if (!caller.memory.Read(arguments[2], bytes)) return Errno{EFAULT};
  const SyscallResult result =
      RuntimeCall(caller, SYS_seccomp,
                  Arguments(static_cast<std::uint32_t>(arguments[0]),
                            static_cast<std::uint32_t>(arguments[1]), &value));
  if (!result.ok()) return result;
  return caller.memory.Write(arguments[2], bytes) ? result : Errno{EFAULT};
}

}  // namespace

SyscallResult HandlePrctl(Caller& caller, const ArgumentValues& arguments) {
  const auto* option = std::ranges::find(kOptions, AsInt(arguments[0]), &PrctlOption::number);
  if (option == std::end(kOptions)) return Errno{EINVAL};
  switch (option->action) {
    case PrctlAction::kForward:
      return HostCall(caller, SYS_prctl, arguments);
    case PrctlAction::kForwardOut:
      return ForwardOut(caller, arguments);
    case PrctlAction::kGetDumpable:
      return SyscallResult(std::int64_t{caller.limits.dumpable.load(std::memory_order_relaxed)});
    case PrctlAction::kSetDumpable:
      return SetDumpable(caller, arguments[1]);
    case PrctlAction::kGetName:
      return GetName(caller, arguments[1]);
    case PrctlAction::kSetName:
      return SetName(caller, arguments[1]);
    case PrctlAction::kZero:
      return kSuccess;
    case PrctlAction::kPermission:
      return Errno{EPERM};
  }
  return Errno{EINVAL};
}

SyscallResult HandlePersonality(Caller& caller, const ArgumentValues& arguments) {
  constexpr std::uint32_t kQuery = 0xffffffff;
  // Bits that change no address and no protection: what the runtime maps stays as it is.
  constexpr std::uint32_t kHarmless = UNAME26 | SHORT_INODE | WHOLE_SECONDS | STICKY_TIMEOUTS;
  const auto persona = static_cast<std::uint32_t>(arguments[0]);
  const bool is_query = persona == kQuery;
  if (!is_query && (persona & ~(kHarmless | kKeptPersonality)) != 0) return Errno{EINVAL};
  const SyscallResult former = HostCall(caller, SYS_personality, Arguments(is_query ? persona : persona & kHarmless));
  if (!former.ok()) return former;
  const auto shown = static_cast<std::uint32_t>(former.value()) | caller.personality;
  if (!is_query) caller.personality = persona & kKeptPersonality;
  return SyscallResult(std::int64_t{shown});
}

SyscallResult HandleSeccomp(Caller& caller, const ArgumentValues& arguments) {
  switch (static_cast<std::uint32_t>(arguments[0])) {
    case SECCOMP_GET_ACTION_AVAIL:
      return SeccompQuery<std::uint32_t>(caller, arguments);
    case SECCOMP_GET_NOTIF_SIZES:
      return SeccompQuery<seccomp_notif_sizes>(caller, arguments);
    default:
      return Errno{EINVAL};
  }
}

// Who is told that barriers for restartable sequences can be had takes it that the sequences can, too (tcmalloc).
SyscallResult HandleMembarrier(Caller& caller, const ArgumentValues& arguments) {
  constexpr int kOfSequences =
      MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ;
  const int command = AsInt(arguments[0]);
  if ((command & kOfSequences) != 0) return Errno{EINVAL};
  const SyscallResult result = HostCall(caller, SYS_membarrier, arguments);
  if (command != MEMBARRIER_CMD_QUERY || !result.ok()) return result;
  return SyscallResult(result.value() & ~std::int64_t{kOfSequences});
}

void RegisterProcessMiscHandlers(HandlerTable& handlers) {
  handlers.Bind("prctl", HandlePrctl);
  handlers.Bind("membarrier", HandleMembarrier);
  handlers.Bind("personality", HandlePersonality);
  handlers.Bind("seccomp", HandleSeccomp);
}

}  // namespace dunebox::hostcalls
