#include "sandbox/plugin/warded_call.h"

#include <algorithm>
#include <array>

#include "hostcalls/table/table.h"
#include "libdune/x86/control.h"

namespace dunebox::plugin {
namespace {

using Access = MemoryFault::Access;
using Kind = hostcalls::ArgumentKind;

constexpr std::array kRead = {Kind::kPath,    Kind::kString,  Kind::kBufferIn, Kind::kStructIn,
                              Kind::kArrayIn, Kind::kIovecIn, Kind::kIovecOut};
constexpr std::array kWritten = {Kind::kBufferOut, Kind::kStructOut, Kind::kStructInOut,
                                 Kind::kArrayOut, Kind::kArrayInOut};

// What the kernel does with what an argument points to. Nothing: it is no pointer.
std::optional<Access> AccessBy(const hostcalls::Argument& argument) {
  if (std::ranges::find(kRead, argument.kind) != kRead.end()) return Access::kRead;
  if (std::ranges::find(kWritten, argument.kind) != kWritten.end()) return Access::kWrite;
  return std::nullopt;
}

bool MendArguments(Warden& warden, const PluginThread& thread, const hostcalls::Request& request) {
  const hostcalls::Row* const row = hostcalls::FindRow(request.number);
  if (row == nullptr) return false;
  for (std::size_t i = 0; i < row->arguments.size(); ++i) {
    const std::optional<Access> access = AccessBy(row->arguments[i]);
    if (access && warden.MendArgument({.address = request.arguments[i],
                                       .access = *access,
                                       .instruction = thread.registers.rip})) {
      return true;
    }
  }
  return false;
}

}  // namespace

MemoryFault::Access AccessOf(const runtime::Fault& fault) {
  namespace page_fault = dune::x86::page_fault;
  if ((fault.error_code & page_fault::kInstruction) != 0) return Access::kExecute;
  return (fault.error_code & page_fault::kWrite) != 0 ? Access::kWrite : Access::kRead;
}

std::optional<std::string> MendFault(Warden* warden, const runtime::Fault& fault,
                                     std::uint64_t instruction) {
  const bool is_asked = fault.vector == dune::x86::Vector::kPageFault && !fault.memory_error;
  if (warden == nullptr || !is_asked) return "";
  return warden->Mend(
      {.address = fault.address, .access = AccessOf(fault), .instruction = instruction});
}

hostcalls::SyscallResult MakeWardedCall(PluginKernel& kernel, PluginThread& thread,
                                        const hostcalls::Request& request) {
  hostcalls::SyscallResult result = kernel.Call(thread, request);
  Warden* const warden = kernel.process().warden();
  if (warden == nullptr) return result;
  // An argument is mended for reading, and then for writing, at the most.
  for (int left = 2 * hostcalls::kMaxArguments; left > 0; --left) {
    if (result.error() != EFAULT || !MendArguments(*warden, thread, request)) break;
    result = kernel.Call(thread, request);
  }
  return result;
}

}  // namespace dunebox::plugin
