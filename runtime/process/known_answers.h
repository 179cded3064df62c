// System calls of which the runtime can tell the result beforehand: refused and absent rows, and who
// the calling thread is. An engine that can answers them without leaving the guest.
//
//   engine.KnowAnswers(KnownAnswers(guard));   // on the thread itself, again after a call that changes them
#ifndef DUNEBOX_RUNTIME_PROCESS_KNOWN_ANSWERS_H_
#define DUNEBOX_RUNTIME_PROCESS_KNOWN_ANSWERS_H_

#include <cstdint>
#include <vector>

#include "hostcalls/policy/guard.h"
#include "runtime/engine.h"

namespace dunebox::process {

// Those of the calling host thread, which is the guest thread's kernel thread. None of a call for
// which the policy has a word; `guard` may be null.
std::vector<runtime::KnownAnswer> KnownAnswers(const hostcalls::policy::Guard* guard);
// May the call with this number have changed what KnownAnswers gives?
bool ChangesAnswers(std::uint64_t number);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_KNOWN_ANSWERS_H_
