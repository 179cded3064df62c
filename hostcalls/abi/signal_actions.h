// A process's signal handlers as the guest's ring 0 sees them: one page for the process, which ring 0 has while
// the process's only thread runs and the host while that is out.
//
// Ring 0 tells them, and puts one handler in another's place. What would change how the host's kernel treats the
// signal (default, ignored, restarting) is left to the host. The host believes of the page no more than it would
// of a system call: a replacement that breaks the rule is not made.
//
//   if (action.MayReplace(handlers.Get(signal))) ...
#ifndef DUNEBOX_HOSTCALLS_ABI_SIGNAL_ACTIONS_H_
#define DUNEBOX_HOSTCALLS_ABI_SIGNAL_ACTIONS_H_

// In the arena.
#define DUNE_ACTIONS_OFFSET 0x9000
// SA_NOCLDSTOP, SA_NOCLDWAIT, SA_RESTART: what the host's handler has of the program's flags.
#define DUNE_ACTION_HOST_FLAGS 0x10000003
#define DUNE_ACTION_SHIFT 5 /* of its size */
#define DUNE_UNBLOCKABLE_SIGNALS 0x40100 /* SIGKILL, SIGSTOP */

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

namespace dunebox::abi {

// struct sigaction as rt_sigaction(2) has it on x86-64. [linux]
struct SignalAction {
  std::uint64_t handler = 0;  // SIG_DFL, SIG_IGN or a guest address
  std::uint64_t flags = 0;
  std::uint64_t restorer = 0;
  std::uint64_t mask = 0;

  bool is_default() const { return handler == 0; }
  bool is_ignore() const { return handler == 1; }
  bool is_handled() const { return handler > 1; }
  // With nothing to change for the host's kernel.
  bool MayReplace(const SignalAction& old) const {
    return is_handled() && old.is_handled() && ((flags ^ old.flags) & DUNE_ACTION_HOST_FLAGS) == 0;
  }
};
static_assert(sizeof(SignalAction) == 1 << DUNE_ACTION_SHIFT);
static_assert(offsetof(SignalAction, flags) == 8 && offsetof(SignalAction, restorer) == 16);
static_assert(offsetof(SignalAction, mask) == 24);

struct SignalActions {
  static constexpr int kSignals = 64;
  SignalAction of[kSignals + 1];  // by number
};
static_assert(sizeof(SignalActions) <= 4096);

}  // namespace dunebox::abi

#endif  // __ASSEMBLER__
#endif  // DUNEBOX_HOSTCALLS_ABI_SIGNAL_ACTIONS_H_
