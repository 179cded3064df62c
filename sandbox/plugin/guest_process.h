// Whom a PluginKernel serves: the one process that a plugin knows of, itself. What its calls do to more than memory and
// descriptors they do by this.
#ifndef DUNEBOX_SANDBOX_PLUGIN_GUEST_PROCESS_H_
#define DUNEBOX_SANDBOX_PLUGIN_GUEST_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "dunebox/failure.h"
#include "hostcalls/result.h"
#include "sandbox/plugin/plugin_thread.h"
#include "sandbox/plugin/warden.h"

namespace dunebox::plugin {

// What a plugin's clone asks for.
struct NewThread {
  std::uint64_t stack = 0;                                             // its top
  std::optional<std::uint64_t> parent_tid, child_tid, thread_pointer;  // guest addresses
  std::uint64_t clear_tid = 0;                                         // 0: nothing to clear
};

class GuestProcess {
 public:
  // Null: nobody is asked.
  virtual Warden* warden() const = 0;
  // The first failure counts. Whoever runs guest code stops.
  virtual void End(Failure failure) = 0;
  virtual hostcalls::SyscallResult StartThread(PluginThread& parent, const NewThread& request) = 0;
  // To thread `target`, or, 0, to any.
  virtual hostcalls::SyscallResult SendSignal(PluginThread& sender, pid_t target, int signal) = 0;
  // "libz.so.1.2.13: deflate+0x1f"; empty when nothing is known of the address.
  virtual std::string SymbolAt(std::uint64_t address) = 0;

  // By a signal that the thread's next instruction was the cause of.
  void EndBySignal(const PluginThread& thread, int signal, std::uint64_t fault_address, std::string missing_grant = {});
  // The engine could not go on. Returns what the caller is told.
  absl::Status Fail(const absl::Status& status);

 protected:
  ~GuestProcess() = default;
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_GUEST_PROCESS_H_
