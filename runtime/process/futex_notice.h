// Tells the engine of a thread's futex calls, so that it may answer by itself those that wake nobody.
//
//   const FutexNotice notice(*thread.engine, request);   // for as long as the call lasts
#ifndef DUNEBOX_RUNTIME_PROCESS_FUTEX_NOTICE_H_
#define DUNEBOX_RUNTIME_PROCESS_FUTEX_NOTICE_H_

#include <cstdint>
#include <optional>

#include "hostcalls/dispatch/dispatcher.h"
#include "runtime/engine.h"

namespace dunebox::process {

// What the call does to futexes; none: nothing that a waker has to know.
std::optional<runtime::FutexUse> FutexUseOf(const hostcalls::Request& request);

class FutexNotice {
 public:
  FutexNotice(runtime::EngineThread& engine, const hostcalls::Request& request);
  ~FutexNotice();
  FutexNotice(const FutexNotice&) = delete;
  FutexNotice& operator=(const FutexNotice&) = delete;

 private:
  runtime::EngineThread& engine_;
  const std::uint64_t word_;
  const std::optional<runtime::FutexUse> use_;
};

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_FUTEX_NOTICE_H_
