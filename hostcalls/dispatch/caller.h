// Who makes a system call, as far as hostcalls may know: its memory, its file
// descriptors' limits, its trace sink. The runtime's thread derives from this.
//
// The registers are by value: a handler works on `arguments`, never on live ones.
#ifndef DUNEBOX_HOSTCALLS_DISPATCH_CALLER_H_
#define DUNEBOX_HOSTCALLS_DISPATCH_CALLER_H_

#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "hostcalls/memory/guest_memory.h"
#include "hostcalls/memory/staging.h"
#include "hostcalls/policy/guard.h"
#include "hostcalls/table/table.h"

namespace dunebox::hostcalls {

using ArgumentValues = std::array<std::uint64_t, kMaxArguments>;

// One system call as the guest made it.
struct Request {
  std::uint64_t number;
  ArgumentValues arguments;
};

// The descriptors that belong to the runtime: [first, first + count). [DESIGN D10]
struct ReservedDescriptors {
  int first;
  int count;
  constexpr bool Contains(std::uint64_t fd) const {
    const auto value = static_cast<std::int32_t>(fd);
    return value >= first && value < first + count;
  }
};

// What a process knows about itself that file services show the guest (/proc/self/...).
class ProcessView {
 public:
  virtual std::string executable_path() const = 0;
  // The text of /proc/self/maps with the guest's own mappings only.
  virtual std::string FormatMaps() const = 0;
  // What /proc/self/{environ,auxv,cmdline} hold: strings with their NULs, auxv as on the stack. An
  // empty command line lets the kernel's, the runtime's own, through.
  virtual std::string Environment() const { return ""; }
  virtual std::string AuxiliaryVector() const { return ""; }
  virtual std::string CommandLine() const { return ""; }
  // The words of /proc/cpuinfo for features that the processor has and the engine does not offer.
  virtual std::vector<std::string> HiddenProcessorFlags() const { return {}; }

 protected:
  ~ProcessView() = default;
};

class VirtualLimits;  // hostcalls/services/limits.h

struct Caller {
  const GuestMemory& memory;
  const ProcessView& process;
  VirtualLimits& limits;
  const ReservedDescriptors reserved;
  // Non-zero when a signal was taken and waits for delivery to the guest; written by host signal
  // handlers of this thread, read by the interruptible system-call stub.
  std::atomic<std::uint32_t> signal_pending{0};
  // What the session's policy permits; null where none is in force: the rights of the caller. Set
  // before the first call.
  const policy::Guard* guard = nullptr;
  // The process whose descendants are the session's processes (services/session_processes.h).
  pid_t session_root = 0;
  // The program's memfds are sealed against being executed: the host's filter takes no others.
  bool seals_memfds = false;
  // The part of the thread's personality that is the runtime's to keep: kKeptPersonality (services/process_misc.h).
  std::uint32_t personality = 0;
  // Why the policy refused the call under way. Whoever traces calls takes it.
  std::string denied_by;
  // For the copies that the kernel gets beside guest addresses; the thread's own.
  Staging staging;

  Caller(const GuestMemory& guest_memory, const ProcessView& process_view,
         VirtualLimits& virtual_limits, ReservedDescriptors reserved_descriptors)
      : memory(guest_memory),
        process(process_view),
        limits(virtual_limits),
        reserved(reserved_descriptors) {}
  // The calling thread's id, where no other has its descriptor table, nor can have before the call under way is over; else 0.
  virtual pid_t LoneThread() const { return 0; }
  // Would a call that a signal has ended be made again? By the handler of the one that is noted.
  virtual bool RestartsAfterSignal() const { return false; }
  // Ends the process because of `signal`: here with the status a shell gives that, in the runtime by
  // the signal itself, whatever the guest does with it.
  [[noreturn]] virtual void EndBySignal(int signal) { _exit(128 + signal); }

  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

 protected:
  ~Caller() = default;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_DISPATCH_CALLER_H_
