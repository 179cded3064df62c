// What an instance asks its warden: faults, and system calls that could not use an address.
#include <algorithm>
#include <array>

#include "libdune/x86/control.h"
#include "sandbox/plugin/instance.h"

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

Access AccessOf(const runtime::Fault& fault) {
  namespace page_fault = dune::x86::page_fault;
  if ((fault.error_code & page_fault::kInstruction) != 0) return Access::kExecute;
  return (fault.error_code & page_fault::kWrite) != 0 ? Access::kWrite : Access::kRead;
}

}  // namespace

std::optional<std::string> Instance::MendFault(const PluginThread& thread,
                                               const runtime::Fault& fault) {
  const bool is_asked = fault.vector == dune::x86::Vector::kPageFault && !fault.memory_error;
  if (warden_ == nullptr || !is_asked) return "";
  return warden_->Mend(
      {.address = fault.address, .access = AccessOf(fault), .instruction = thread.registers.rip});
}

hostcalls::SyscallResult Instance::MakeCall(PluginThread& thread,
                                            const hostcalls::Request& request) {
  hostcalls::SyscallResult result = kernel_.Call(thread, request);
  if (warden_ == nullptr) return result;
  // An argument is mended for reading, and then for writing, at the most.
  for (int left = 2 * hostcalls::kMaxArguments; left > 0; --left) {
    if (result.error() != EFAULT || !MendArguments(thread, request)) break;
    result = kernel_.Call(thread, request);
  }
  return result;
}

bool Instance::MendArguments(const PluginThread& thread, const hostcalls::Request& request) {
  const hostcalls::Row* const row = hostcalls::FindRow(request.number);
  if (row == nullptr) return false;
  for (std::size_t i = 0; i < row->arguments.size(); ++i) {
    const std::optional<Access> access = AccessBy(row->arguments[i]);
    if (access && warden_->MendArgument({.address = request.arguments[i],
                                         .access = *access,
                                         .instruction = thread.registers.rip})) {
      return true;
    }
  }
  return false;
}

}  // namespace dunebox::plugin
