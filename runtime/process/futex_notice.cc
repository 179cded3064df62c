#include "runtime/process/futex_notice.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#include <algorithm>

namespace dunebox::process {
namespace {

using runtime::FutexUse;

// futex_waitv (the lowest number), futex_wait, futex_requeue: absent rows now, and not to be forgotten when they no longer are.
constexpr std::uint64_t kLaterCalls[] = {449, 455, 456};

}  // namespace

std::optional<FutexUse> FutexUseOf(const hostcalls::Request& request) {
  if (request.number != SYS_futex) {
    const bool is_later = request.number >= kLaterCalls[0] &&
                          std::ranges::count(kLaterCalls, request.number) != 0;
    return is_later ? std::optional(FutexUse::kIrregular) : std::nullopt;
  }
  switch (static_cast<int>(request.arguments[1]) & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
      return FutexUse::kWait;
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
    case FUTEX_WAKE_OP:
      return std::nullopt;
    default:
      return FutexUse::kIrregular;
  }
}

namespace {

// Nearly all calls end at the first question.
std::optional<FutexUse> IfHeard(const runtime::EngineThread& engine, std::optional<FutexUse> use) {
  return use && engine.uses_known_answers() ? use : std::nullopt;
}

}  // namespace

FutexNotice::FutexNotice(runtime::EngineThread& engine, const hostcalls::Request& request)
    : engine_(engine),
      word_(request.arguments[0]),
      use_(IfHeard(engine, FutexUseOf(request))) {
  if (use_) engine_.BeginFutex(*use_, word_);
}

FutexNotice::~FutexNotice() {
  if (use_) engine_.EndFutex(*use_, word_);
}

}  // namespace dunebox::process
