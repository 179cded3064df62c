#include "hostcalls/policy/call_rules.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <string>
#include <vector>

#include "hostcalls/services/privileges.h"
#include "services_fixture.h"

namespace dunebox::hostcalls::policy {
namespace {

using Arguments = std::array<std::uint64_t, kMaxArguments>;

CallAction ActionOf(const Rules& rules, std::uint64_t number, Arguments arguments = {}) {
  return CallRules(rules).Decide(number, arguments).action;
}

Rules With(std::vector<CallRule> calls, CallAction otherwise = CallAction::kAllow) {
  return {.allow_all = false,
          .default_call_action = otherwise,
          .default_call_error = ENOSYS,
          .calls = std::move(calls)};
}

TEST(CallRules, WithoutRulesTheDefaultDecides) {
  EXPECT_EQ(ActionOf(With({}), SYS_read), CallAction::kAllow);
  const Rules deny = With({}, CallAction::kError);
  const CallRules::Decision decision = CallRules(deny).Decide(SYS_read, Arguments{});
  EXPECT_EQ(decision.action, CallAction::kError);
  EXPECT_EQ(decision.error, ENOSYS);
  EXPECT_EQ(decision.origin, 0);
}

TEST(CallRules, TheFirstRuleWhoseConditionsHoldDecides) {
  const Rules rules = With({
      {.number = SYS_read, .action = CallAction::kKill, .origin = 1},
      {.number = SYS_socket,
       .action = CallAction::kError,
       .error = EACCES,
       .conditions = {{.argument = 0, .comparison = Comparison::kEqual, .value = AF_INET}},
       .origin = 2},
      {.number = SYS_socket, .action = CallAction::kAllow, .origin = 3},
      {.number = SYS_socket, .action = CallAction::kKill, .origin = 4},
  });
  const CallRules calls(rules);
  EXPECT_EQ(calls.Decide(SYS_socket, Arguments{AF_INET}).action, CallAction::kError);
  EXPECT_EQ(calls.Decide(SYS_socket, Arguments{AF_INET}).error, EACCES);
  EXPECT_EQ(calls.Decide(SYS_socket, Arguments{AF_INET}).origin, 2);
  EXPECT_EQ(calls.Decide(SYS_socket, Arguments{AF_UNIX}).action, CallAction::kAllow);
  EXPECT_EQ(calls.Decide(SYS_socket, Arguments{AF_UNIX}).origin, 3);
  EXPECT_EQ(calls.Decide(SYS_read, Arguments{}).action, CallAction::kKill);
  EXPECT_EQ(calls.Decide(SYS_write, Arguments{}).action, CallAction::kAllow);
}

TEST(CallRules, AllConditionsOfARuleHaveToHold) {
  const Rules rules = With({{.number = SYS_kill,
                             .action = CallAction::kError,
                             .conditions = {{.argument = 0, .value = 7},
                                            {.argument = 1, .value = 9}}}});
  EXPECT_EQ(ActionOf(rules, SYS_kill, {7, 9}), CallAction::kError);
  EXPECT_EQ(ActionOf(rules, SYS_kill, {7, 8}), CallAction::kAllow);
  EXPECT_EQ(ActionOf(rules, SYS_kill, {8, 9}), CallAction::kAllow);
}

TEST(CallRules, ComparisonsAreOfAllSixtyFourBitsUnsigned) {
  constexpr std::uint64_t kTop = std::uint64_t{1} << 63;
  struct Case {
    Comparison comparison;
    std::uint64_t mask;
    std::vector<std::uint64_t> hold, fail;
  };
  const Case cases[] = {
      {Comparison::kEqual, 0, {5}, {4, 6, kTop | 5}},
      {Comparison::kNotEqual, 0, {4, 6, kTop | 5}, {5}},
      {Comparison::kLess, 0, {0, 4}, {5, 6, kTop}},
      {Comparison::kLessOrEqual, 0, {0, 5}, {6, kTop}},
      {Comparison::kGreater, 0, {6, kTop}, {0, 5}},
      {Comparison::kGreaterOrEqual, 0, {5, kTop}, {0, 4}},
      {Comparison::kMaskedEqual, 7, {5, 13, kTop | 5}, {4, 12}},
  };
  for (const Case& one : cases) {
    const Rules rules = With({{.number = SYS_lseek,
                               .action = CallAction::kKill,
                               .conditions = {{.argument = 5,
                                               .comparison = one.comparison,
                                               .value = 5,
                                               .mask = one.mask}}}});
    for (const std::uint64_t value : one.hold) {
      EXPECT_EQ(ActionOf(rules, SYS_lseek, {0, 0, 0, 0, 0, value}), CallAction::kKill)
          << static_cast<int>(one.comparison) << " " << value;
    }
    for (const std::uint64_t value : one.fail) {
      EXPECT_EQ(ActionOf(rules, SYS_lseek, {0, 0, 0, 0, 0, value}), CallAction::kAllow)
          << static_cast<int>(one.comparison) << " " << value;
    }
  }
}

TEST(CallRules, AConditionOnAnArgumentThatNoCallHasNeverHolds) {
  const Rules rules = With({{.number = SYS_read,
                             .action = CallAction::kKill,
                             .conditions = {{.argument = 6, .value = 0}}}});
  EXPECT_EQ(ActionOf(rules, SYS_read), CallAction::kAllow);
}

TEST(CallRules, NumbersWithoutACallGetTheDefault) {
  const Rules rules = With({}, CallAction::kKill);
  for (const std::uint64_t number : {std::uint64_t{511}, std::uint64_t{512}, ~std::uint64_t{0}}) {
    EXPECT_EQ(ActionOf(rules, number), CallAction::kKill) << number;
  }
}

TEST(CallRules, ACallIsAlwaysAllowedOnlyWhenNoArgumentCanMatter) {
  const Rules rules = With({
      {.number = SYS_read, .action = CallAction::kAllow, .conditions = {{.argument = 0}}},
      {.number = SYS_write, .action = CallAction::kAllow},
      {.number = SYS_write, .action = CallAction::kKill},
      {.number = SYS_getpid, .action = CallAction::kError},
      {.number = SYS_getuid, .action = CallAction::kKill, .conditions = {{.argument = 0}}},
  });
  const CallRules calls(rules);
  EXPECT_TRUE(calls.AlwaysAllows(SYS_read));
  EXPECT_TRUE(calls.AlwaysAllows(SYS_write));
  EXPECT_TRUE(calls.AlwaysAllows(SYS_gettid));
  EXPECT_FALSE(calls.AlwaysAllows(SYS_getpid));
  EXPECT_FALSE(calls.AlwaysAllows(SYS_getuid));
  Rules closed = rules;
  closed.default_call_action = CallAction::kError;
  const CallRules others(closed);
  EXPECT_FALSE(others.AlwaysAllows(SYS_read));
  EXPECT_TRUE(others.AlwaysAllows(SYS_write));
  EXPECT_FALSE(others.AlwaysAllows(SYS_gettid));
}

TEST(CallRules, WhatChangesTheMachineNeedsARuleOfItsOwn) {
  const Rules none = With({});
  const CallRules calls(none);
  for (const long number : {SYS_sethostname, SYS_settimeofday, SYS_clock_settime, SYS_vhangup}) {
    const CallRules::Decision decision =
        calls.Decide(static_cast<std::uint64_t>(number), Arguments{});
    EXPECT_EQ(decision.action, CallAction::kError) << number;
    EXPECT_EQ(decision.error, EPERM) << number;
    EXPECT_FALSE(calls.AlwaysAllows(static_cast<std::uint64_t>(number))) << number;
  }
  EXPECT_EQ(ActionOf(none, SYS_uname), CallAction::kAllow);
  EXPECT_EQ(ActionOf(With({{.number = SYS_sethostname}}), SYS_sethostname), CallAction::kAllow);
  EXPECT_EQ(ActionOf(With({}, CallAction::kKill), SYS_sethostname), CallAction::kKill);
}

// ---- In the dispatcher --------------------------------------------------------------------------

struct Noted : DenialSink {
  void OnDenial(Caller&, const Denial& denial, bool was_audited) override {
    object = denial.object;
    audited = was_audited;
    ++count;
  }
  std::string object;
  bool audited = false;
  int count = 0;
};

TEST(CallRulesInDispatcher, ARefusedCallIsNotMadeAndIsTold) {
  const Rules rules =
      With({{.number = SYS_getppid, .action = CallAction::kError, .error = EXDEV}});
  Noted noted;
  const Guard guard(rules, &noted);
  TestThread thread;
  thread.guard = &guard;
  EXPECT_EQ(thread.Call(SYS_getppid), -EXDEV);
  EXPECT_EQ(noted.object, "getppid");
  EXPECT_FALSE(noted.audited);
  EXPECT_EQ(thread.Call(SYS_getpid), getpid());
  EXPECT_EQ(noted.count, 1);
}

TEST(CallRulesInDispatcher, AnAuditOnlyTells) {
  Rules rules = With({{.number = SYS_getppid, .action = CallAction::kKill}});
  rules.audit = true;
  Noted noted;
  const Guard guard(rules, &noted);
  TestThread thread;
  thread.guard = &guard;
  EXPECT_EQ(thread.Call(SYS_getppid), getppid());
  EXPECT_TRUE(noted.audited);
}

TEST(Privileges, TheArgumentsSayWhatTakesACapability) {
  const auto use = [](const char* call, Arguments arguments) {
    const PrivilegeUse found = PrivilegeOf(*FindRow(call), arguments);
    return std::string(found.capability) + " " + found.cure;
  };
  const std::uint64_t user = getuid(), group = getgid(), other = 4'000'000'000, same = 0xffff'ffff;
  EXPECT_EQ(use("setuid", {other}), "CAP_SETUID --uid 4000000000");
  EXPECT_EQ(use("setuid", {user}), " ");
  EXPECT_EQ(use("setresuid", {same, same, other}), "CAP_SETUID --uid 4000000000");
  EXPECT_EQ(use("setresuid", {same, user, user}), " ");
  EXPECT_EQ(use("setregid", {group, other}), "CAP_SETGID --gid 4000000000");
  EXPECT_EQ(use("setregid", {group, same, other}), " ");
  EXPECT_EQ(use("setgroups", {0, 0}), "CAP_SETGID ");
  EXPECT_EQ(use("chown", {0, other, same}), "CAP_CHOWN ");
  EXPECT_EQ(use("chown", {0, same, other}), "CAP_CHOWN ");
  EXPECT_EQ(use("fchownat", {0, 0, user, group}), " ");
  EXPECT_EQ(use("read", {0, 0, other}), " ");
}

TEST(Privileges, AnAuditTellsWhenTheyWereUsed) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, who may give a file away";
  Rules rules = With({});
  rules.audit = true;
  Noted noted;
  const Guard guard(rules, &noted);
  TestThread thread;
  thread.guard = &guard;
  const int file = static_cast<int>(syscall(SYS_memfd_create, "file", 0));
  EXPECT_EQ(thread.Call(SYS_fchown, -1, 1, 1), -EBADF);
  EXPECT_EQ(noted.count, 0);
  EXPECT_EQ(thread.Call(SYS_fchown, file, 1, 1), 0);
  EXPECT_EQ(noted.object, "CAP_CHOWN");
  EXPECT_EQ(noted.count, 1);
  rules.audit = false;
  EXPECT_EQ(thread.Call(SYS_fchown, file, 2, 2), 0);
  EXPECT_EQ(noted.count, 1);
  close(file);
}

TEST(CallRulesInDispatcher, NoRuleAllowsWhatTheTableDenies) {
  const Rules rules = With({{.number = SYS_ptrace, .action = CallAction::kAllow},
                            {.number = SYS_kcmp, .action = CallAction::kAllow}});
  const Guard guard(rules, nullptr);
  TestThread thread;
  thread.guard = &guard;
  EXPECT_EQ(thread.Call(SYS_ptrace, 0, 0, 0, 0), -EPERM);
  EXPECT_EQ(thread.Call(SYS_kcmp, 0, 0, 0, 0, 0), -ENOSYS);
  EXPECT_EQ(thread.Call(511), -ENOSYS);
}

TEST(CallRulesInDispatcher, KillEndsTheProcess) {
  const Rules rules = With({}, CallAction::kKill);
  const Guard guard(rules, nullptr);
  TestThread thread;
  thread.guard = &guard;
  EXPECT_EXIT(thread.Call(SYS_getppid), ::testing::ExitedWithCode(128 + SIGSYS), "");
  EXPECT_EXIT(thread.Call(100'000), ::testing::ExitedWithCode(128 + SIGSYS), "");
}

}  // namespace
}  // namespace dunebox::hostcalls::policy
