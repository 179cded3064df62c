#include "hostcalls/dispatch/host_call.h"

namespace dunebox::hostcalls {
namespace {

struct RawResult {
  std::int64_t value;     // RAX
  std::uint64_t restart;  // RDX
};

extern "C" {
RawResult dunebox_host_call(const std::atomic<std::uint32_t>* pending, std::uint64_t number,
                            const std::uint64_t* arguments);
extern const char dunebox_host_call_window[];
extern const char dunebox_host_call_syscall[];
extern const char dunebox_host_call_restart[];
}

std::uint64_t AddressOf(const char* label) { return reinterpret_cast<std::uint64_t>(label); }

}  // namespace

SyscallResult HostCall(Caller& caller, std::uint64_t number, const ArgumentValues& arguments) {
  const RawResult raw = dunebox_host_call(&caller.signal_pending, number, arguments.data());
  return raw.restart != 0 ? SyscallResult::Restart() : SyscallResult::FromKernel(raw.value);
}

std::uint64_t HostCallRewind(std::uint64_t rip) {
  const bool inside =
      rip >= AddressOf(dunebox_host_call_window) && rip <= AddressOf(dunebox_host_call_syscall);
  return inside ? AddressOf(dunebox_host_call_restart) : rip;
}

}  // namespace dunebox::hostcalls
