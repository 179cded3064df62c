// `--trace=chrome`: the events in the trace format of chrome://tracing and Perfetto, as a JSON
// array with one event a line.
//
// Calls are complete events ("X"), calls without return and signals instant ones ("i"); processes
// and threads have names. The array is never closed: the format allows that, so that what was
// written when a process is killed can be loaded as it is. kChromeTraceStart goes first, once a
// session.
//
//   WriteLine(trace_fd, kChromeTraceStart);
//   ChromeTrace trace(trace_fd);
//   Dispatcher dispatcher(handlers, &trace);
#ifndef DUNEBOX_HOSTCALLS_TRACE_CHROME_TRACE_H_
#define DUNEBOX_HOSTCALLS_TRACE_CHROME_TRACE_H_

#include <string>
#include <string_view>

#include "hostcalls/trace/event_trace.h"

namespace dunebox::hostcalls {

inline constexpr std::string_view kChromeTraceStart = "[\n";

class ChromeTrace final : public EventTrace {
 public:
  // Borrows `fd`.
  explicit ChromeTrace(int fd, int report_fd = -1) : EventTrace(fd, report_fd) {}

 private:
  std::string FormatCall(const CallEvent& call) const override;
  std::string FormatSignal(const EventOrigin& origin, const siginfo_t& info) const override;
  std::string FormatBegin(const EventOrigin& origin, Beginning what,
                          std::string_view program) const override;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TRACE_CHROME_TRACE_H_
