// CHECK for our own bugs: says what was wrong and where, then ends the process with 125. Never for guest or host
// faults; those are Errno and absl::Status.
#ifndef DUNEBOX_HOSTCALLS_CHECK_H_
#define DUNEBOX_HOSTCALLS_CHECK_H_

namespace dunebox {

// Writes "dunebox: internal error: ..." to stderr and ends the process. Async-signal-safe.
[[noreturn]] void CheckFailed(const char* condition, const char* message, const char* file,
                              int line);

}  // namespace dunebox

#define DUNEBOX_CHECK(condition, message)   \
  (__builtin_expect(!!(condition), 1) ? (void)0 \
                                      : ::dunebox::CheckFailed(#condition, message, __FILE__, __LINE__))

#endif  // DUNEBOX_HOSTCALLS_CHECK_H_
