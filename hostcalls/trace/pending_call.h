// The system calls that threads are in, between the two halves of a trace.
//
// What goes in is decoded when the call is made and kept, with the time, until it has returned.
// Kept per host thread. A forked child inherits what its parent was in and returns from it, too. A
// vforked one shares it with its waiting parent: its calls lie above the parent's, and those it
// never returned from are forgotten when the parent's returns.
//
//   EnterCall({&caller, request, CallText(memory, row, request), MonotonicNow()});
//   std::optional<PendingCall> call = LeaveCall(caller, request);
#ifndef DUNEBOX_HOSTCALLS_TRACE_PENDING_CALL_H_
#define DUNEBOX_HOSTCALLS_TRACE_PENDING_CALL_H_

#include <cstdint>
#include <optional>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/trace/format.h"

namespace dunebox::hostcalls {

struct PendingCall {
  const Caller* caller;
  Request request;
  CallText text;
  std::uint64_t start;  // MonotonicNow()
};

void EnterCall(PendingCall call);
// Nothing when the call has been abandoned already.
std::optional<PendingCall> LeaveCall(const Caller& caller, const Request& request);
// The innermost call, which will not return; nothing when there is none.
std::optional<PendingCall> AbandonCall();

// exit and exit_group.
bool NeverReturns(const Row* row);

// Nanoseconds of CLOCK_MONOTONIC, the same for all processes.
std::uint64_t MonotonicNow();

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TRACE_PENDING_CALL_H_
