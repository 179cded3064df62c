#include "runtime/process/known_answers.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "hostcalls/table/table.h"

namespace dunebox::process {
namespace {

using hostcalls::Route;
using runtime::Answer;

// Nobody but the thread itself can change these.
constexpr std::uint16_t kOwnIdentity[] = {SYS_getpid,  SYS_gettid, SYS_getuid,
                                          SYS_geteuid, SYS_getgid, SYS_getegid};

// What changes only the thread's own state, or memory that it has been lent; or nothing.
constexpr runtime::KnownAnswer kWithoutHost[] = {
    {SYS_rt_sigprocmask, Answer::kSignalMask},
    {SYS_sched_yield, Answer::kYield},
    {SYS_arch_prctl, Answer::kSegmentBase},
    {SYS_set_robust_list, Answer::kRobustList},
    {SYS_futex, Answer::kFutex},
    {SYS_mmap, Answer::kMemory},
    {SYS_munmap, Answer::kMemory},
    {SYS_brk, Answer::kMemory},
    {SYS_mprotect, Answer::kMemory},
    {SYS_madvise, Answer::kMemory},
    {SYS_rt_sigreturn, Answer::kSignalReturn},
    {SYS_clock_gettime, Answer::kClock},
    {SYS_gettimeofday, Answer::kTimeOfDay},
    {SYS_time, Answer::kTime},
    {SYS_rt_sigaction, Answer::kSignalAction},
    {SYS_sigaltstack, Answer::kAlternateStack},
};

constexpr runtime::KnownAnswer Result(std::uint16_t number, std::int64_t result) {
  return {.number = number, .answer = Answer::kResult, .result = result};
}

}  // namespace

int RefusesAlways(const hostcalls::policy::Rules& rules, std::uint64_t number) {
  using hostcalls::policy::CallAction;
  using hostcalls::policy::CallRule;
  if (rules.allow_all || rules.audit) return 0;
  const auto first = std::ranges::lower_bound(rules.calls, number, {}, &CallRule::number);
  if (first != rules.calls.end() && first->number == number) {
    return first->conditions.empty() && first->action == CallAction::kError ? first->error : 0;
  }
  return rules.default_call_action == CallAction::kError ? rules.default_call_error : 0;
}

std::vector<runtime::KnownAnswer> KnownAnswers(const hostcalls::policy::Guard* guard,
                                               const RefusedCalls& told) {
  std::vector<runtime::KnownAnswer> answers(std::begin(kWithoutHost), std::end(kWithoutHost));
  for (const hostcalls::Row& row : hostcalls::AllRows()) {
    if (row.route == Route::kDenied) answers.push_back(Result(row.number, -EPERM));
    if (row.route == Route::kAbsent) answers.push_back(Result(row.number, -ENOSYS));
  }
  answers.push_back({SYS_set_tid_address, Answer::kChildTid, gettid()});
  for (const std::uint16_t number : kOwnIdentity) answers.push_back(Result(number, syscall(number)));
  static_assert(hostcalls::kSyscallTableSize <= runtime::kNumbersFromHere);
  for (std::uint16_t number = 0; number < runtime::kNumbersFromHere; ++number) {
    if (hostcalls::FindRow(number) == nullptr) answers.push_back(Result(number, -ENOSYS));
  }
  answers.push_back(Result(runtime::kNumbersFromHere, -ENOSYS));
  if (guard == nullptr) return answers;
  std::erase_if(answers, [&](const runtime::KnownAnswer& answer) {
    return !guard->calls().AlwaysAllows(answer.number);
  });
  for (std::uint16_t number = 0; told.any() && number < told.size(); ++number) {
    if (told.test(number)) answers.push_back(Result(number, -RefusesAlways(guard->rules(), number)));
  }
  return answers;
}

bool ChangesAnswers(std::uint64_t number) {
  const hostcalls::Row* row = hostcalls::FindRow(number);
  return row != nullptr && row->family == hostcalls::Family::kIdentity;
}

}  // namespace dunebox::process
