// A call that writes to a descriptor, made within what the session may still write (output_meter.h).
//
// What is asked for is taken first and what was not written given back, so that threads together
// keep the limit. A sibling may make the number mean another file between the look and the call.
// So changes of what numbers mean are counted, a few numbers together: what was written while one
// happened counts as output.
//
//   return CallWithinOutput(caller, fd, size, [&](std::uint64_t granted) { return HostCall(...); });
#ifndef DUNEBOX_HOSTCALLS_SERVICES_COUNTED_OUTPUT_H_
#define DUNEBOX_HOSTCALLS_SERVICES_COUNTED_OUTPUT_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "hostcalls/dispatch/caller.h"
#include "hostcalls/result.h"
#include "hostcalls/table/table.h"

namespace dunebox::hostcalls {

// Makes `call` with `bytes`, or with fewer when it `may_write_less`. Ends the session when nothing
// is left. Its result is the number of bytes written.
enum class Partly : unsigned char { kMayBe, kNever };
SyscallResult CallWithinOutput(Caller& caller, int fd, std::uint64_t bytes, Partly partly,
                               absl::FunctionRef<SyscallResult(std::uint64_t granted)> call);

// A forwarded call, prepared: as CallWithPaths, but those of output_calls.inc within the limit.
SyscallResult CallForwarded(Caller& caller, const Row& row, const ArgumentValues& values);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_COUNTED_OUTPUT_H_
