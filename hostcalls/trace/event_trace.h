// A trace for programs to read: one event a line, in the format of a derived class.
//
//   json_trace.h     an object a line
//   chrome_trace.h   for chrome://tracing and Perfetto
//
// Here are the events and when they are written; a format only makes lines of them. A line is one
// write(2) of at most PIPE_BUF bytes, so that those of threads and processes do not mix even in a
// pipe: arguments are cut to what fits. As with every trace the program notices nothing, and a line
// that cannot be written is lost as a whole.
#ifndef DUNEBOX_HOSTCALLS_TRACE_EVENT_TRACE_H_
#define DUNEBOX_HOSTCALLS_TRACE_EVENT_TRACE_H_

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/trace/pending_call.h"
#include "hostcalls/trace/write_line.h"

namespace dunebox::hostcalls {

// Who an event is of, and when it was: MonotonicNow().
struct EventOrigin {
  pid_t process;
  pid_t thread;
  std::uint64_t time;
};

struct CallEvent {
  EventOrigin origin;  // its time is when the call was made
  const Row* row;      // null for a number without one
  std::uint64_t number;
  const CallText& text;
  std::uint64_t duration;               // nanoseconds
  std::optional<SyscallResult> result;  // nothing: it does not return
  std::string denied_by;                // why the policy refused it; empty: it did not
};

// The arguments as a JSON object by name: numbers as numbers, bytes and paths as strings escaped as
// in C, null pointers as null, everything else as the text trace has it. A path or string that
// cannot be read is {"address":"0x10"}.
std::string ArgumentsAsJson(const Row* row, const CallText& text);
// The result as a JSON value, null when there is none; an address is a string.
std::string ResultAsJson(const Row* row, const std::optional<SyscallResult>& result);

class EventTrace : public TraceSink {
 public:
  void OnEnter(Caller& caller, const Row* row, const Request& request) final;
  void OnExit(Caller& caller, const Row* row, const Request& request, SyscallResult result) final;
  void OnNoReturn() final;
  void OnSignal(const siginfo_t& info) final;
  void OnBegin(Beginning what, std::string_view program) final;

 protected:
  // Borrows both; where `fd` takes no more, `report_fd` says so.
  EventTrace(int fd, int report_fd) : file_(fd, report_fd, "--trace") {}

 private:
  // Each returns whole lines, "\n" included, or nothing.
  virtual std::string FormatCall(const CallEvent& call) const = 0;
  virtual std::string FormatSignal(const EventOrigin& origin, const siginfo_t& info) const = 0;
  virtual std::string FormatBegin(const EventOrigin& origin, Beginning what,
                                  std::string_view program) const = 0;

  UserFile file_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TRACE_EVENT_TRACE_H_
