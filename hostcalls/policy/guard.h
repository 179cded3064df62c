// Where services ask whether a call may go on, and what happens when it may not.
//
// A service that finds no permission in the rules describes it as a Denial and asks Refuse: the
// denial is reported, and the call fails with `error` unless the session only audits. Nothing here
// decides; the rules do. One a process, used by all its threads at once.
//
//   if (!(guard.rules().RightsOn(path).rights & kReadFile) &&
//       guard.Refuse(caller, {.action = "read", .object = path, .error = EACCES, ...})) ...
#ifndef DUNEBOX_HOSTCALLS_POLICY_GUARD_H_
#define DUNEBOX_HOSTCALLS_POLICY_GUARD_H_

#include <string>
#include <string_view>

#include "hostcalls/policy/call_rules.h"
#include "hostcalls/policy/rules.h"

namespace dunebox::hostcalls {
struct Caller;
}

namespace dunebox::hostcalls::policy {

// What was not permitted, in words that need no program to be understood.
struct Denial {
  std::string_view action;  // "read", "write", "create", "execute", "connect", "listen", "call", ...
  std::string object;       // the resolved path, "tcp:192.0.2.1:443", "unix:/run/x", "ptrace"
  Origin origin = 0;        // of the rule that forbids it; 0: no rule allows it
  std::string cure;         // the flag that would allow it: "--ro /etc"
  int error = 0;            // errno for the program
};

// Where denials go: the report on stderr, the trace, what `dunebox policy learn` reads.
class DenialSink {
 public:
  // From any thread. The caller's registers and call are those at the moment of the denial.
  virtual void OnDenial(Caller& caller, const Denial& denial, bool audited) = 0;

 protected:
  ~DenialSink() = default;
};

class Guard {
 public:
  // Both have to outlive it. A null sink: denials are not told.
  Guard(const Rules& rules, DenialSink* sink) : rules_(rules), calls_(rules), sink_(sink) {}
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  const Rules& rules() const { return rules_; }
  const CallRules& calls() const { return calls_; }
  // Is there nothing to ask? Then services take their quick ways.
  bool allows_all() const { return rules_.allow_all; }
  // Reports. True: the call fails with denial.error; false: only noted, it goes on.
  bool Refuse(Caller& caller, const Denial& denial) const {
    if (sink_ != nullptr) sink_->OnDenial(caller, denial, rules_.audit);
    return !rules_.audit;
  }

 private:
  const Rules& rules_;
  const CallRules calls_;
  DenialSink* const sink_;
};

}  // namespace dunebox::hostcalls::policy

#endif  // DUNEBOX_HOSTCALLS_POLICY_GUARD_H_
