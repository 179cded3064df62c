// System calls of which the runtime can tell the result beforehand: refused and absent rows, and who
// the calling thread is. An engine that can answers them without leaving the guest.
//
//   engine.KnowAnswers(KnownAnswers(guard, told));   // on the thread itself, again after a call that changes them
#ifndef DUNEBOX_RUNTIME_PROCESS_KNOWN_ANSWERS_H_
#define DUNEBOX_RUNTIME_PROCESS_KNOWN_ANSWERS_H_

#include <bitset>
#include <cstdint>
#include <vector>

#include "hostcalls/policy/guard.h"
#include "hostcalls/table/table.h"
#include "runtime/engine.h"

namespace dunebox::process {

// Calls that the policy has refused to a thread.
using RefusedCalls = std::bitset<hostcalls::kSyscallTableSize>;

// Those of the calling host thread, which is the guest thread's kernel thread. Of a call for which the policy has a
// word only that it refuses it, whatever its arguments are, and only when that has been told once, so that it is
// one of `told`; `guard` may be null.
std::vector<runtime::KnownAnswer> KnownAnswers(const hostcalls::policy::Guard* guard,
                                               const RefusedCalls& told);
// The error with which the rules refuse a call always; 0: they do not, or somebody wants to hear of each.
int RefusesAlways(const hostcalls::policy::Rules& rules, std::uint64_t number);
// May the call with this number have changed what KnownAnswers gives?
bool ChangesAnswers(std::uint64_t number);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_KNOWN_ANSWERS_H_
