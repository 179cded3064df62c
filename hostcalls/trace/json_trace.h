// `--trace=json`: one JSON object a line.
//
//   {"event":"call","pid":7,"tid":7,"start_ns":81,"name":"openat","number":257,
//    "args":{"dirfd":"AT_FDCWD","pathname":"/x",...},"result":-1,"errno":"ENOENT",
//    "duration_ns":912,"engine":"kvm","route":"handled"}
//
// Events: "call"; "exit" (exit, exit_group) and "exec" (an execve past its point of no return) are
// calls that do not return; "signal", about to be delivered; "start", a thread's first step. Beside
// these, "denied_by":"table" where the table refuses the call, and "interrupted":true where a
// signal came before the call did anything and it will be made again. Times are of CLOCK_MONOTONIC.
//
//   JsonTrace trace(trace_fd, "kvm");
//   Dispatcher dispatcher(handlers, &trace);
#ifndef DUNEBOX_HOSTCALLS_TRACE_JSON_TRACE_H_
#define DUNEBOX_HOSTCALLS_TRACE_JSON_TRACE_H_

#include <string>
#include <string_view>

#include "hostcalls/trace/event_trace.h"

namespace dunebox::hostcalls {

class JsonTrace final : public EventTrace {
 public:
  // Borrows `fd`.
  JsonTrace(int fd, std::string_view engine, int report_fd = -1)
      : EventTrace(fd, report_fd), engine_(engine) {}

 private:
  std::string FormatCall(const CallEvent& call) const override;
  std::string FormatSignal(const EventOrigin& origin, const siginfo_t& info) const override;
  std::string FormatBegin(const EventOrigin& origin, Beginning what,
                          std::string_view program) const override;

  const std::string engine_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TRACE_JSON_TRACE_H_
