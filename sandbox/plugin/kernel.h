// What a plugin takes for its kernel: the one class through which its system calls go. Descriptors,
// working directory, umask, process and thread ids, dispositions are its own; the host application's are
// never touched.
//
// Default deny: a call that calls.inc does not name fails with EPERM (ENOSYS where Linux might not have it
// either), is noted, and ends the sandbox if the policy says so. Of files, what the policy names may be read;
// nothing is written, no network, no processes.
//
// Calls are made in the calling thread, with the rights of its process behind these checks: the host
// application's, or, with two walls, those of a confined worker (sandbox/worker). Everything that asks the host's kernel
// for more than the thread's own memory or time goes through Files, which may be a confined broker's.
//
//   PluginKernel kernel(policy, memory, space, instance, std::move(files));
//   SyscallResult result = kernel.Call(thread, request);
#ifndef DUNEBOX_SANDBOX_PLUGIN_KERNEL_H_
#define DUNEBOX_SANDBOX_PLUGIN_KERNEL_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "hostcalls/dispatch/caller.h"
#include "hostcalls/memory/guest_memory.h"
#include "hostcalls/result.h"
#include "hostcalls/table/table.h"
#include "runtime/memory/memory_calls.h"
#include "runtime/signals/action.h"
#include "dunebox/policy.h"
#include "sandbox/plugin/descriptors.h"
#include "sandbox/plugin/files.h"
#include "sandbox/plugin/guest_process.h"
#include "sandbox/plugin/plugin_thread.h"
#include "sandbox/plugin/snapshot.h"

namespace dunebox::plugin {

// The only process that a plugin knows of: itself.
inline constexpr pid_t kVirtualPid = 2;

class PluginKernel {
 public:
  // All outlive it.
  PluginKernel(const Policy& policy, const hostcalls::GuestMemory& memory, memory::MemoryCalls& space,
               GuestProcess& process, std::unique_ptr<Files> files);

  hostcalls::SyscallResult Call(PluginThread& thread, const hostcalls::Request& request);

  // Something that is not permitted was asked for. Whoever calls this answers with the error.
  void NoteDenial(std::string what);
  void KeepOutput(std::string_view text);

  // For the host, from any thread.
  std::string TakeOutput();
  std::vector<std::string> Denials() const;

  const Policy& policy() const { return policy_; }
  const hostcalls::GuestMemory& memory() const { return memory_; }
  memory::MemoryCalls& space() { return space_; }
  GuestProcess& process() { return process_; }
  Files& files() { return *files_; }
  const Files& files() const { return *files_; }
  Descriptors& descriptors() { return descriptors_; }

  // Where output goes besides, if not to a descriptor of this process's: how much of it, or an errno. Set
  // before the first call; by any thread of the guest's.
  using Relay = std::function<hostcalls::SyscallResult(const OpenFile& output, std::string_view text)>;
  void SetRelay(Relay relay) { relay_ = std::move(relay); }
  const Relay& relay() const { return relay_; }

  signals::KernelAction ActionOf(int signal) const;
  signals::KernelAction SetAction(int signal, const signals::KernelAction& action);

  std::string directory() const;
  void SetDirectory(std::string path);
  std::uint32_t ExchangeMask(std::uint32_t mask);

  // Between calls.
  // What execve does: handlers are forgotten, and descriptors closed that say so.
  void Execute();
  KernelState Save() const;
  // With descriptors of its own, or, of the kernel that it was saved from, with the same: they are moved to
  // where they were. What was put out and denied since is forgotten.
  enum class OpenFiles : bool { kSame, kReopened };
  absl::Status Restore(const KernelState& state, OpenFiles files);

 private:
  hostcalls::SyscallResult Refuse(PluginThread& thread, const hostcalls::Row* row);

  const Policy& policy_;
  const hostcalls::GuestMemory& memory_;
  memory::MemoryCalls& space_;
  GuestProcess& process_;
  const std::unique_ptr<Files> files_;
  Descriptors descriptors_;
  Relay relay_;

  mutable std::mutex mutex_;  // guards what follows
  std::array<signals::KernelAction, signals::kSignalCount + 1> actions_{};
  std::string directory_ = "/";
  std::uint32_t mask_ = 022;
  std::string output_;
  std::vector<std::string> denials_;
};

// What a handler of calls.inc gets.
struct Calling {
  PluginKernel& kernel;
  PluginThread& thread;
  const hostcalls::GuestMemory& memory;
  const hostcalls::ArgumentValues& arguments;

  std::uint64_t operator[](std::size_t index) const { return arguments[index]; }
  int Int(std::size_t index) const { return static_cast<std::int32_t>(arguments[index]); }
  // To the host's kernel, until a kick. Pointers are the host's own, or checked and of the window.
  hostcalls::SyscallResult Host(std::uint64_t number, const hostcalls::ArgumentValues& values) const;
  // The host's address of guest memory that the host's kernel may use during a call; null: not all of it is
  // the guest's.
  void* Checked(std::uint64_t address, std::uint64_t size) const {
    return memory.HostAddress(address, size);
  }
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_KERNEL_H_
