// A compartment that ring 0 keeps: its code runs in ring 3 of a page table of its own, and what it asks for comes back
// here. For callers it is what any sandbox's guest is; system calls are those of plugins (sandbox/plugin/kernel.h).
//
// One host thread is in it at a time, with whatever it calls from callbacks; others wait until their deadline. Each has to
// be in ring 0.
//
//   absl::StatusOr<std::unique_ptr<Ring0Guest>> guest = Ring0Guest::Create(origin);
//   absl::StatusOr<CallResult> result = (*guest)->Call(function, frame);
#ifndef DUNEBOX_SANDBOX_COMPARTMENT_RING0_GUEST_H_
#define DUNEBOX_SANDBOX_COMPARTMENT_RING0_GUEST_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "dunebox/policy.h"
#include "hostcalls/memory/guest_memory.h"
#include "sandbox/compartment/holder.h"
#include "sandbox/compartment/paged_space.h"
#include "sandbox/plugin/arena.h"
#include "sandbox/plugin/guest.h"
#include "sandbox/plugin/guest_process.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/plugin_thread.h"
#include "sandbox/plugin/snapshot.h"

namespace dunebox::compartment {

// Of what all compartments of one code are clones.
struct Ring0Origin {
  std::shared_ptr<const plugin::InstanceSnapshot> snapshot;
  const Policy policy;
  PagedOrigin memory;
  // That the snapshot was taken of; knows the names of functions.
  plugin::Instance& instance;

  // kUnavailable: ring 3 is not to be had, or this thread is not in ring 0. kUnimplemented: what the policy asks for.
  static absl::StatusOr<std::unique_ptr<const Ring0Origin>> Of(
      plugin::Instance& instance, std::shared_ptr<const plugin::InstanceSnapshot> snapshot, Policy policy);
  // Whether there can be one, to be asked before code is loaded.
  static absl::Status Check(const Policy& policy);
};

class Ring0Guest final : public plugin::Guest, public plugin::GuestProcess, public Holder {
 public:
  // `origin` outlives it.
  static absl::StatusOr<std::unique_ptr<Ring0Guest>> Create(const Ring0Origin& origin);
  ~Ring0Guest() override = default;

  void SetWarden(plugin::Warden* warden) { warden_ = warden; }

  // ---- plugin::Guest
  absl::Status Load(const std::string& path) override;
  absl::StatusOr<std::uint64_t> FindSymbol(const std::string& name) override;
  absl::StatusOr<internal::CallResult> Call(std::uint64_t function,
                                            const internal::CallFrame& frame) override;
  absl::StatusOr<std::uint64_t> AddCallback(std::shared_ptr<const internal::Callback> callback) override;
  absl::StatusOr<internal::Block> Allocate(std::size_t size) override;
  bool IsCalledByThisThread() const override;
  void EndNow() override { End({.kind = Failure::Kind::kExited}); }
  absl::StatusOr<std::shared_ptr<const plugin::InstanceSnapshot>> Snapshot() override;
  absl::Status ReturnTo(const plugin::InstanceSnapshot& snapshot) override;
  absl::StatusOr<internal::Block> Claim(std::uint64_t address, std::size_t size) override;
  bool Read(std::uint64_t from, std::span<std::byte> to) const override;
  bool Write(std::uint64_t to, std::span<const std::byte> from) override;
  absl::StatusOr<std::string> ReadString(std::uint64_t from, std::size_t most) const override;
  std::optional<Failure> failure() const override;
  std::string TakeOutput() override;
  std::vector<std::string> Denials() const override;
  std::string engine() const override { return "ring 0"; }
  std::string isolation() const override { return "page table"; }
  std::vector<std::string> confinement() const override { return {}; }

  // ---- plugin::GuestProcess
  plugin::Warden* warden() const override { return warden_; }
  void End(Failure failure) override;
  hostcalls::SyscallResult StartThread(plugin::PluginThread& parent, const plugin::NewThread& request) override;
  hostcalls::SyscallResult SendSignal(plugin::PluginThread& sender, pid_t target, int signal) override;
  std::string SymbolAt(std::uint64_t address) override;

  // ---- Holder
  absl::Status CheckThread() const override;
  absl::Status Put(const Region& region, std::optional<RegionAccess> access) override;
  plugin::PluginKernel& kernel() override;
  absl::Status Recycle() override;

 private:
  explicit Ring0Guest(const Ring0Origin& origin);

  absl::Status Begin();
  absl::StatusOr<internal::CallResult> CallLocked(std::uint64_t function, const internal::CallFrame& frame);
  absl::StatusOr<internal::CallResult> Finish(const internal::CallFrame& frame, std::uint64_t stack_after);
  // What is left of a call when it has not just returned: nothing, it goes on; else how it has ended.
  std::optional<absl::StatusOr<internal::CallResult>> OnSystemCall(const internal::CallFrame& frame,
                                                                   std::uint64_t stack_after);
  void OnFault(const runtime::Fault& fault);
  void OnCallback(std::uint64_t number);
  // Null: there is none.
  std::shared_ptr<const internal::Callback> CallbackAt(std::uint64_t number) const;
  void LookWhyKicked();
  absl::Status EndedStatus() const;

  const Ring0Origin& origin_;
  PagedSpace space_;
  const hostcalls::GuestMemory memory_;
  plugin::Warden* warden_ = nullptr;
  plugin::PluginThread thread_;
  std::recursive_timed_mutex in_use_;  // held around calls
  std::atomic<bool> has_ended_{false};

  mutable std::mutex mutex_;  // guards what follows
  std::vector<std::shared_ptr<const internal::Callback>> callbacks_;
  std::optional<Failure> failure_;
  // Made when it is first needed: many compartments make no system call.
  std::unique_ptr<plugin::PluginKernel> kernel_;
  std::shared_ptr<plugin::Arena> arena_;
};

}  // namespace dunebox::compartment

#endif  // DUNEBOX_SANDBOX_COMPARTMENT_RING0_GUEST_H_
