// A system call as one line of text, decoded by the kinds in its row.
//
// Text is made at two moments: what goes in when the call is made, what comes out when it has
// returned. Guest memory is read through GuestMemory only; what cannot be read is shown as its
// address. Nothing here changes the guest.
//
//   CallText call(memory, row, request);                 // openat(AT_FDCWD, "/etc/hosts", ...
//   call.AddOutputs(memory, row, request, result);       // read(3, "127.0.0.1 local"..., 4096
//   Print(call.ToString());
#ifndef DUNEBOX_HOSTCALLS_TRACE_FORMAT_H_
#define DUNEBOX_HOSTCALLS_TRACE_FORMAT_H_

#include <array>
#include <span>
#include <string>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/memory/guest_memory.h"
#include "hostcalls/result.h"
#include "hostcalls/table/table.h"

namespace dunebox::hostcalls {

// Bytes of a buffer that are shown; paths are shown in full.
inline constexpr std::size_t kShownBufferBytes = 32;

class CallText {
 public:
  // Reads the guest's memory as it is before the call. `row` is null for a number without one.
  CallText(const GuestMemory& memory, const Row* row, const Request& request);

  // Puts what the call wrote in the place of the addresses. Does nothing for a call that failed.
  void AddOutputs(const GuestMemory& memory, const Row* row, const Request& request,
                  SyscallResult result);

  // name(argument, argument)
  std::string ToString() const;

  const std::string& name() const { return name_; }
  std::span<const std::string> arguments() const {
    return std::span(arguments_).first(static_cast<std::size_t>(argument_count_));
  }

 private:
  std::string name_;
  std::array<std::string, kMaxArguments> arguments_;
  int argument_count_;
};

// The call as it goes in, outputs as addresses.
std::string FormatEnter(const GuestMemory& memory, const Row* row, const Request& request);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TRACE_FORMAT_H_
