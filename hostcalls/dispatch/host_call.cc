#include "hostcalls/dispatch/host_call.h"

#include "hostcalls/memory/protection_keys.h"

namespace dunebox::hostcalls {
namespace {

struct RawResult {
  std::int64_t value;     // RAX
  std::uint64_t restart;  // RDX
};

extern "C" {
RawResult dunebox_host_call(const std::atomic<std::uint32_t>* pending, std::uint64_t number,
                            const std::uint64_t* arguments);
RawResult dunebox_keyed_host_call(const std::atomic<std::uint32_t>* pending, std::uint64_t number,
                                  const std::uint64_t* arguments);
extern const char dunebox_host_call_window[], dunebox_keyed_host_call_window[];
extern const char dunebox_host_call_syscall[], dunebox_keyed_host_call_syscall[];
extern const char dunebox_host_call_restart[], dunebox_keyed_host_call_restart[];
}

struct Stub {
  const char *window, *syscall, *restart;
};
constexpr Stub kStubs[] = {
    {dunebox_host_call_window, dunebox_host_call_syscall, dunebox_host_call_restart},
    {dunebox_keyed_host_call_window, dunebox_keyed_host_call_syscall,
     dunebox_keyed_host_call_restart},
};

std::uint64_t AddressOf(const char* label) { return reinterpret_cast<std::uint64_t>(label); }

SyscallResult FromRaw(RawResult raw) {
  return raw.restart != 0 ? SyscallResult::Restart() : SyscallResult::FromKernel(raw.value);
}

}  // namespace

SyscallResult HostCall(Caller& caller, std::uint64_t number, const ArgumentValues& arguments) {
  const auto stub = KeysInUse() ? dunebox_keyed_host_call : dunebox_host_call;
  return FromRaw(stub(&caller.signal_pending, number, arguments.data()));
}

SyscallResult RuntimeCall(Caller& caller, std::uint64_t number, const ArgumentValues& arguments) {
  return InterruptibleCall(caller.signal_pending, number, arguments);
}

SyscallResult InterruptibleCall(const std::atomic<std::uint32_t>& pending, std::uint64_t number,
                                const ArgumentValues& arguments) {
  return FromRaw(dunebox_host_call(&pending, number, arguments.data()));
}

std::uint64_t HostCallRewind(std::uint64_t rip) {
  for (const Stub& stub : kStubs) {
    if (rip >= AddressOf(stub.window) && rip <= AddressOf(stub.syscall)) {
      return AddressOf(stub.restart);
    }
  }
  return rip;
}

}  // namespace dunebox::hostcalls
