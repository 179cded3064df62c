// Every row that says "handled" has somebody who handles it.
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>

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
    return std::ranges::any_of(KnownAnswers(guard), [&](const runtime::KnownAnswer& answer) {
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

}  // namespace
}  // namespace dunebox::process
