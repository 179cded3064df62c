// Every row that says "handled" has somebody who handles it.
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>

#include "hostcalls/table/table.h"
#include "runtime/process/known_answers.h"
#include "runtime/process/process.h"

namespace dunebox::process {
namespace {

TEST(Handlers, EveryHandledRowIsBound) {
  const hostcalls::HandlerTable handlers = AllHandlers();
  for (const hostcalls::Row& row : hostcalls::AllRows()) {
    const bool handled = row.route == hostcalls::Route::kHandled;
    EXPECT_EQ(handlers.Find(row.number) != nullptr, handled) << row.name;
  }
}

// What an engine answers by itself nobody else is asked about.
TEST(KnownAnswers, AreOnlyOfCallsThatThePolicyHasNoWordAbout) {
  using hostcalls::policy::CallAction;
  const auto has = [](const hostcalls::policy::Guard* guard, std::uint16_t number) {
    return std::ranges::any_of(KnownAnswers(guard, {}), [&](const runtime::KnownAnswer& answer) {
      return answer.number == number;
    });
  };
  const hostcalls::policy::Rules rules{
      .allow_all = false,
      .calls = {{.number = SYS_getpid, .action = CallAction::kError},
                {.number = SYS_ptrace, .action = CallAction::kKill},
                {.number = SYS_getuid,
                 .action = CallAction::kError,
                 .conditions = {{.argument = 0, .value = 7}}},
                {.number = SYS_gettid, .action = CallAction::kAllow}}};
  const hostcalls::policy::Guard guard(rules, nullptr);
  for (const std::uint16_t number : {SYS_getpid, SYS_getuid, SYS_ptrace}) {
    EXPECT_TRUE(has(nullptr, number)) << number;
    EXPECT_FALSE(has(&guard, number)) << number;
  }
  EXPECT_TRUE(has(&guard, SYS_gettid));
  EXPECT_TRUE(has(&guard, SYS_kcmp));
}

TEST(KnownAnswers, ARefusalIsOneOnceItHasBeenToldAndIfNothingCanChangeIt) {
  using hostcalls::policy::CallAction;
  hostcalls::policy::Rules rules{
      .allow_all = false,
      .calls = {{.number = SYS_getpid, .action = CallAction::kError, .error = ENOENT},
                {.number = SYS_ptrace, .action = CallAction::kKill},
                {.number = SYS_getuid,
                 .action = CallAction::kError,
                 .conditions = {{.argument = 0, .value = 7}}},
                {.number = SYS_getuid, .action = CallAction::kError},
                {.number = SYS_gettid, .action = CallAction::kAllow}}};
  EXPECT_EQ(RefusesAlways(rules, SYS_getpid), ENOENT);
  for (const std::uint64_t number : {SYS_ptrace, SYS_getuid, SYS_gettid, SYS_sync}) {
    EXPECT_EQ(RefusesAlways(rules, number), 0) << number;
  }
  const hostcalls::policy::Guard guard(rules, nullptr);
  RefusedCalls told;
  told.set(SYS_getpid);
  const auto answers = KnownAnswers(&guard, told);
  const auto found = std::ranges::find(answers, SYS_getpid, &runtime::KnownAnswer::number);
  ASSERT_NE(found, answers.end());
  EXPECT_EQ(found->result, -ENOENT);
  EXPECT_EQ(found->answer, runtime::Answer::kResult);
  // What no rule is about.
  rules.default_call_action = CallAction::kError;
  rules.default_call_error = EACCES;
  EXPECT_EQ(RefusesAlways(rules, SYS_sync), EACCES);
  EXPECT_EQ(RefusesAlways(rules, SYS_gettid), 0);
  // Audited calls go on.
  rules.audit = true;
  EXPECT_EQ(RefusesAlways(rules, SYS_getpid), 0);
}

}  // namespace
}  // namespace dunebox::process
