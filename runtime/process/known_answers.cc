#include "runtime/process/known_answers.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "hostcalls/table/table.h"

namespace dunebox::process {
namespace {

using hostcalls::Route;

// Nobody but the thread itself can change these.
constexpr std::uint16_t kOwnIdentity[] = {SYS_getpid,  SYS_gettid, SYS_getuid,
                                          SYS_geteuid, SYS_getgid, SYS_getegid};

}  // namespace

std::vector<runtime::KnownAnswer> KnownAnswers(const hostcalls::policy::Guard* guard) {
  std::vector<runtime::KnownAnswer> answers;
  for (const hostcalls::Row& row : hostcalls::AllRows()) {
    if (row.route == Route::kDenied) answers.push_back({row.number, -EPERM});
    if (row.route == Route::kAbsent) answers.push_back({row.number, -ENOSYS});
  }
  for (const std::uint16_t number : kOwnIdentity) answers.push_back({number, syscall(number)});
  if (guard == nullptr) return answers;
  std::erase_if(answers, [&](const runtime::KnownAnswer& answer) {
    return !guard->calls().AlwaysAllows(answer.number);
  });
  return answers;
}

bool ChangesAnswers(std::uint64_t number) {
  const hostcalls::Row* row = hostcalls::FindRow(number);
  return row != nullptr && row->family == hostcalls::Family::kIdentity;
}

}  // namespace dunebox::process
