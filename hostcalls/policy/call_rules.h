// The rules about single system calls, ready to be asked at every call. [DESIGN D7]
//
// Made once from Rules: for each number where its rules are, so that a call without any costs one
// look into an array. The rules see the registers as the program passed them and decide before the
// call takes its route: none of them allows what the table denies.
//
//   const CallRules calls(rules);
//   if (const CallRules::Decision decision = calls.Decide(number, arguments);
//       decision.action != CallAction::kAllow) ...
#ifndef DUNEBOX_HOSTCALLS_POLICY_CALL_RULES_H_
#define DUNEBOX_HOSTCALLS_POLICY_CALL_RULES_H_

#include <array>
#include <cstdint>
#include <span>

#include "hostcalls/policy/rules.h"
#include "hostcalls/table/table.h"

namespace dunebox::hostcalls::policy {

class CallRules {
 public:
  using Registers = std::span<const std::uint64_t, kMaxArguments>;

  // `rules` has to outlive it.
  explicit CallRules(const Rules& rules);

  struct Decision {
    CallAction action = CallAction::kAllow;
    int error = 0;  // with kError
    Origin origin = 0;
  };
  // Of the first rule whose conditions hold; of the default when there is none, which is EPERM for
  // calls that concern the whole machine (machine_calls.inc).
  Decision Decide(std::uint64_t number, Registers registers) const;

  // Is the call allowed whatever its arguments are? Then nobody has to be asked, and an engine may
  // carry it out by itself.
  bool AlwaysAllows(std::uint64_t number) const;

 private:
  // The rules of one number stand together.
  struct Place {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };
  std::span<const CallRule> RulesOf(std::uint64_t number) const;

  const Rules& rules_;
  std::array<Place, kSyscallTableSize> places_{};
  static_assert((kSyscallTableSize & (kSyscallTableSize - 1)) == 0);
};

}  // namespace dunebox::hostcalls::policy

#endif  // DUNEBOX_HOSTCALLS_POLICY_CALL_RULES_H_
