// What the user is told when the session's policy forbids a call: on standard error, and as JSON
// lines where the session asked for them.
//
//   dunebox: denied: cat (pid 12) openat(AT_FDCWD, "/etc/shadow", O_RDONLY)
//     read /etc/shadow; rule: none allows it
//     at 0x7f12a4d14a7e libc.so.6+0x114a7e (openat64+0x2e)
//     to allow it: --ro /etc/shadow
//
// The same object is named once for the same action as long as it is remembered, and a program that
// is denied a lot is told about a few times a second: the next report says how many were left out.
// The JSON lines are all there; sandbox/policy/denial_log.h reads them:
//
//   {"pid":12,"program":"/usr/bin/cat","call":"openat","action":"read","object":"/etc/shadow",
//    "arguments":"openat(AT_FDCWD, ...)","rule":"none allows it","cure":"--ro
//    /etc/shadow","audited":false}
//
// Whatever bytes the program chose, both are printable ASCII. Takes no lock that a fork could leave
// held: any thread may report, also that of a forked child.
#ifndef DUNEBOX_RUNTIME_PROCESS_DENIAL_REPORT_H_
#define DUNEBOX_RUNTIME_PROCESS_DENIAL_REPORT_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

#include "hostcalls/policy/guard.h"
#include "hostcalls/trace/write_line.h"
#include "runtime/process/session_state.h"

namespace dunebox::process {

// One denial, with all that is said of it. The program's bytes are not escaped yet, but for `call`.
struct DenialText {
  int process = 0;
  std::string program;  // the path of its file
  std::string call;     // name(arguments), as a trace has it
  std::string place;    // of the call in the program
  std::string action;
  std::string object;
  std::string rule;
  std::string cure;
  bool audited = false;
};
// Both end with "\n". `left_out`: denials that were not told before this one.
std::string DenialBlock(const DenialText& denial, std::uint64_t left_out);
std::string DenialLine(const DenialText& denial);

// How often something may happen: some at once, then one an interval.
class RateLimit {
 public:
  RateLimit(int at_once, std::chrono::nanoseconds interval)
      : room_(interval * (at_once - 1)), interval_(interval) {}
  // Is this one within the limit? `now` never goes back.
  bool Take(std::chrono::nanoseconds now);

 private:
  const std::chrono::nanoseconds room_;
  const std::chrono::nanoseconds interval_;
  std::atomic<std::int64_t> next_{0};  // when there is room again, were it not for `room_`
};

class DenialReport final : public hostcalls::policy::DenialSink {
 public:
  // Which has to outlive it. Calls come from GuestThreads.
  explicit DenialReport(const SessionState& session)
      : session_(session), record_(session.denials_fd, session.report_fd, "the record of denials") {}

  void OnDenial(hostcalls::Caller& caller, const hostcalls::policy::Denial& denial,
                bool audited) override;

 private:
  bool IsNew(const hostcalls::policy::Denial& denial);

  const SessionState& session_;
  hostcalls::UserFile record_;
  RateLimit limit_{16, std::chrono::milliseconds(250)};
  std::atomic<std::uint64_t> left_out_{0};
  std::array<std::atomic<std::uint64_t>, 256> told_{};  // hashes, each in its place
};

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_DENIAL_REPORT_H_
