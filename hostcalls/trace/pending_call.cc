#include "hostcalls/trace/pending_call.h"

#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace dunebox::hostcalls {
namespace {

// The innermost last. More than one only while a vforked child runs in its parent's thread.
thread_local std::vector<PendingCall> pending_calls;

}  // namespace

void EnterCall(PendingCall call) { pending_calls.push_back(std::move(call)); }

std::optional<PendingCall> LeaveCall(const Caller& caller, const Request& request) {
  const auto found =
      std::find_if(pending_calls.rbegin(), pending_calls.rend(), [&](const PendingCall& call) {
        return call.caller == &caller && call.request.number == request.number &&
               call.request.arguments == request.arguments;
      });
  if (found == pending_calls.rend()) return std::nullopt;
  const auto place = std::prev(found.base());
  PendingCall call = std::move(*place);
  pending_calls.erase(place, pending_calls.end());
  return call;
}

std::optional<PendingCall> AbandonCall() {
  if (pending_calls.empty()) return std::nullopt;
  PendingCall call = std::move(pending_calls.back());
  pending_calls.pop_back();
  return call;
}

bool NeverReturns(const Row* row) {
  return row != nullptr && (row->number == SYS_exit || row->number == SYS_exit_group);
}

std::uint64_t MonotonicNow() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;
  return static_cast<std::uint64_t>(now.tv_sec) * kNanosecondsPerSecond +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace dunebox::hostcalls
