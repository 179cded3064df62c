// One guest in a window: memory, engine, virtual kernel, threads, from the program that is loaded
// first to whatever ends it. It begins once and ends once; Sandbox makes another one to start over.
//
// Calls come from any host thread. Each borrows a guest thread that is parked at its gate; a call
// made from a callback goes on with the thread that the callback came from.
//
//   absl::StatusOr<std::unique_ptr<Instance>> instance = Instance::Create(policy);
//   absl::StatusOr<std::uint64_t> compress = (*instance)->FindSymbol("compress");
//   absl::StatusOr<CallResult> result = (*instance)->Call(*compress, frame);
#ifndef DUNEBOX_SANDBOX_PLUGIN_INSTANCE_H_
#define DUNEBOX_SANDBOX_PLUGIN_INSTANCE_H_

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "dunebox/call.h"
#include "dunebox/failure.h"
#include "dunebox/policy.h"
#include "hostcalls/memory/guest_memory.h"
#include "runtime/file_descriptor.h"
#include "runtime/loader/program.h"
#include "runtime/memory/address_space.h"
#include "runtime/memory/range_set.h"
#include "sandbox/plugin/arena.h"
#include "sandbox/plugin/guest.h"
#include "sandbox/plugin/guest/gates.h"
#include "sandbox/plugin/guest_engine.h"
#include "sandbox/plugin/guest_process.h"
#include "sandbox/plugin/kernel.h"
#include "sandbox/plugin/plugin_thread.h"
#include "sandbox/plugin/snapshot.h"
#include "sandbox/plugin/warden.h"
#include "sandbox/plugin/window.h"

namespace dunebox::plugin {

using internal::Callback;
using internal::CallbackFrame;
using internal::CallFrame;
using internal::CallResult;

struct ProgramFile;

class Instance final : public Guest, public GuestProcess {
 public:
  // With a guest whose program starts when it is first needed, and with it its host threads' guest threads. The same
  // `random` bits give the same guest addresses. `before_guest` comes when the engine has all that it needs of the
  // host's kernel, and nothing of the plugin's world has been read; what it returns is respected.
  static absl::StatusOr<std::unique_ptr<Instance>> Create(
      const Policy& policy, std::uint64_t random, std::unique_ptr<Files> files,
      absl::FunctionRef<absl::Status()> before_guest = [] { return absl::OkStatus(); });
  // With a guest that is as it was when a snapshot was taken, which `open` knows and this is the only one to have.
  // It comes when `before_guest` would.
  using SnapshotOpener =
      absl::FunctionRef<absl::StatusOr<std::shared_ptr<const InstanceSnapshot>>(Files& files)>;
  static absl::StatusOr<std::unique_ptr<Instance>> CreateFrom(const Policy& policy,
                                                              std::uint64_t random,
                                                              std::unique_ptr<Files> files,
                                                              SnapshotOpener open);
  // With a guest that is as it was when the snapshot was taken. The policy is the one that it was taken under.
  static absl::StatusOr<std::unique_ptr<Instance>> Create(const Policy& policy,
                                                          const InstanceSnapshot& snapshot,
                                                          std::unique_ptr<Files> files);
  // The same from one without code, which it gets: translations of the new instance's.
  static absl::StatusOr<std::unique_ptr<Instance>> CreateFirst(const Policy& policy,
                                                               InstanceSnapshot& snapshot,
                                                               std::unique_ptr<Files> files);
  // Ends what still runs.
  ~Instance() override;

  absl::Status Load(const std::string& path) override;
  absl::StatusOr<std::uint64_t> FindSymbol(const std::string& name) override;
  absl::StatusOr<CallResult> Call(std::uint64_t function, const CallFrame& frame) override;
  absl::StatusOr<std::uint64_t> AddCallback(std::shared_ptr<const Callback> callback) override;
  absl::StatusOr<internal::Block> Allocate(std::size_t size) override;
  bool IsCalledByThisThread() const override;
  void EndNow() override { End({.kind = Failure::Kind::kExited}); }
  bool Read(std::uint64_t from, std::span<std::byte> to) const override;
  bool Write(std::uint64_t to, std::span<const std::byte> from) override;
  absl::StatusOr<std::string> ReadString(std::uint64_t from, std::size_t most) const override;
  std::optional<Failure> failure() const override;
  std::string TakeOutput() override;
  std::vector<std::string> Denials() const override;
  std::string engine() const override { return engine_->name(); }
  std::string isolation() const override { return engine_->isolation(); }
  std::vector<std::string> confinement() const override { return kernel_.files().confinement(); }

  // Memory that the host shares with others, for good: the plugin can neither unmap nor protect it. Where a
  // snapshot says that it was, else anywhere. No snapshot has what is in it.
  absl::StatusOr<GuestRange> MapHostMemory(int fd, std::uint64_t bytes);

  // Asked from then on; null: nobody is. Outlives the instance, or is taken away. Between calls, when no thread of
  // the plugin's runs.
  void SetWarden(Warden* warden) { warden_ = warden; }
  Warden* warden() const override { return warden_; }
  // Whether the guest thread that the calling host thread runs has to stop, because its time is up or its instance has
  // ended: for who waits on its behalf for something else than the kernel's calls that a kick interrupts. False where
  // it runs none.
  static bool MustCallerStop();
  // What AddCallback gives the callback of that number, also before it is added.
  std::uint64_t CallbackAddress(std::size_t number) const;

  // ---- between calls (instance_snapshot.cc)

  absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> Snapshot() override {
    return SnapshotInto(std::nullopt);
  }
  // The same with its memory in a file that somebody else has made (hostcalls::SealedFile::MakeUnsealed), and
  // without code in common: for a process that can have neither from the host's kernel any more.
  absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> SnapshotInto(
      std::optional<runtime::FileDescriptor> image);
  // To one that was taken of this, or that it was made from; also after the end. Threads that the plugin has
  // started are ended. Callbacks stay. On failure the instance is not to be used any more.
  absl::Status ReturnTo(const InstanceSnapshot& snapshot) override {
    return ReturnTo(snapshot, memory::AddressSpace::HostMemory::kStays);
  }
  bool BeginAgain(const InstanceSnapshot& snapshot) override;
  absl::StatusOr<internal::Block> Claim(std::uint64_t address, std::size_t size) override;

  const hostcalls::GuestMemory& memory() const { return memory_; }
  memory::AddressSpace& space() { return space_; }
  PluginKernel& kernel() { return kernel_; }
  GuestEngine& guest_engine() const { return *engine_; }

  // ---- for the virtual kernel, from the thread that makes the call

  void End(Failure failure) override;
  hostcalls::SyscallResult StartThread(PluginThread& parent, const NewThread& request) override;
  hostcalls::SyscallResult SendSignal(PluginThread& sender, pid_t target, int signal) override;
  std::string SymbolAt(std::uint64_t address) override;

 private:
  // Why RunThread has returned.
  struct Ready {
    std::uint64_t table;
  };
  struct Returned {
    std::uint64_t value;
  };
  struct CallbackCalled {
    std::uint64_t number;
  };
  struct ThreadExited {};
  struct Ended {};  // the instance, whose failure says why
  struct Broken {
    std::string reason;  // the engine's
  };
  using Stop = std::variant<Ready, Returned, CallbackCalled, ThreadExited, Ended, Broken>;

  class Borrowed;
  friend class Borrowed;
  class Lent;
  friend class Lent;

  Instance(const Policy& policy, std::shared_ptr<const ReservedWindow> window, std::uint64_t random,
           std::unique_ptr<Files> files);

  static absl::StatusOr<std::unique_ptr<Instance>> Reserve(const Policy& policy, std::uint64_t random,
                                                           std::unique_ptr<Files> files);
  absl::Status Start(absl::FunctionRef<absl::Status()> before_guest);
  absl::Status StartFrom(const InstanceSnapshot& snapshot, PluginKernel::OpenFiles files);
  absl::Status ShareCode(InstanceSnapshot& snapshot);
  absl::Status MatchThreads(const InstanceSnapshot& snapshot);
  absl::Status SetUpEngine(std::shared_ptr<const runtime::SharedCode> shared);

  // ---- instance_program.cc
  absl::Status EnsureStarted();
  absl::Status StartMain();
  absl::StatusOr<std::unique_ptr<PluginThread>> BeginMain(std::uint64_t& bias);
  // In place of all that is in the window but the host's memory and the gates. When it has failed and the instance
  // has ended, there was no way back.
  absl::Status LoadProgram(const ProgramFile& file);
  absl::Status CheckProgram(const ProgramFile& file);
  absl::Status Execute(const ProgramFile& file);
  absl::Status ClearWindow();
  memory::RangeSet Gates() const;
  absl::StatusOr<std::uint64_t> FindInProgram(std::uint64_t names, const std::string& name);
  absl::StatusOr<std::unique_ptr<PluginThread>> BeginProgram(const loader::Program& program,
                                                             std::uint64_t& bias);
  std::optional<Ready> RunToGate(PluginThread& thread);
  absl::StatusOr<std::unique_ptr<PluginThread>> MakeLentThread(PluginThread& main);
  absl::Status LendThreads(std::unique_ptr<PluginThread> main);
  absl::Status NotStarted(absl::string_view what);

  // ---- instance_run.cc
  // What `first` says has happened before.
  Stop RunThread(PluginThread& thread, std::optional<runtime::Exit> first = std::nullopt);
  std::optional<Stop> OnExit(PluginThread& thread, const runtime::Exit& exit);
  // After a kick. False: the thread stops.
  bool LookWhyKicked(PluginThread& thread);
  // Whether the plugin's own thread may go on with another idle budget.
  bool MayGoOnIdle(PluginThread& thread);
  void BeginIdleBudget(PluginThread& thread);
  // How many calls the host has made, and whether one is under way.
  std::uint64_t CallsSeen(bool& is_called) const;
  std::optional<Stop> OnSystemCall(PluginThread& thread);
  void OnFault(PluginThread& thread, const runtime::Fault& fault);
  void DeliverSignals(PluginThread& thread);
  bool EnterHandler(PluginThread& thread, const siginfo_t& info, const signals::TrapInfo& trap);

  // ---- instance_threads.cc
  // False: the process cannot have another thread.
  bool RunByItself(PluginThread& thread);
  void Finish(PluginThread& thread);

  // ---- instance_load.cc
  // Text for the plugin.
  absl::StatusOr<internal::Block> Share(const std::string& text);
  absl::Status LoadFile(const std::string& path);
  absl::Status LoadLibrary(const std::string& path);
  absl::Status OrNoFiles(absl::Status status) const;

  // What the guest's program offers to be called, by address; 0: nothing. Those of main.c, or the one of a static program.
  struct Functions {
    PluginTable table{};
    std::uint64_t names = 0;  // of a static program that was loaded: where they are (guest_names.h); 0: none was
  };

  // ---- calls (instance.cc)
  // Of one call, beside its deadline.
  struct Budget {
    absl::Duration processor_time = absl::InfiniteDuration();
    std::uint64_t instructions = 0;  // 0: no limit
  };
  struct Limits {
    absl::Duration time = absl::InfiniteDuration();
    Budget budget;
    bool IsNone() const {
      return time == absl::InfiniteDuration() && budget.processor_time == absl::InfiniteDuration();
    }
  };
  absl::StatusOr<CallResult> CallWithin(const Limits& limits, std::uint64_t function,
                                        const CallFrame& frame);
  // A parked guest thread for the calling host thread; null when the instance has ended.
  LentPlace* TakeParked();
  LentPlace* TakeFree();  // null also when there is none
  // All of them, so that no call begins. False: not all that are lent are parked, or there are others.
  bool TakeAllParked();
  void ParkAll();
  std::size_t CountLent() const;  // by who has taken all places
  absl::Status ReturnTo(const InstanceSnapshot& snapshot,
                        memory::AddressSpace::HostMemory host_memory);
  void SetCallbacks(const std::vector<std::shared_ptr<const Callback>>& callbacks);
  void Park(LentPlace& place);
  absl::StatusOr<CallResult> CallOn(PluginThread& thread, std::uint64_t function,
                                    const CallFrame& frame, std::uint64_t deadline,
                                    const Budget& budget);
  // The same without limits of its own.
  absl::StatusOr<CallResult> CallNow(PluginThread& thread, std::uint64_t function,
                                     const CallFrame& frame);
  // What is left of a call that has not just returned numbers.
  absl::StatusOr<CallResult> LeaveFunction(PluginThread& thread, const CallFrame& frame,
                                           GuestCpu::Left left, GuestCpu::Returned& returned,
                                           std::uint64_t stack_after);
  absl::StatusOr<CallResult> ResultOf(PluginThread& thread, const CallFrame& frame,
                                      const GuestCpu::Returned& returned);
  absl::StatusOr<CallResult> FinishCall(PluginThread& thread, const CallFrame& frame,
                                        std::optional<runtime::Exit> first, std::uint64_t stack_after);
  absl::Status EndByMismatch();
  absl::Status RunCallback(PluginThread& thread, runtime::Registers& registers, std::uint64_t number);
  absl::Status EndedStatus() const;

  Functions GetFunctions() const;
  void SetFunctions(const Functions& functions);
  void KickAll();
  void Enlist(PluginThread& thread);
  void Dismiss(PluginThread& thread);

  const Policy& policy_;
  const Limits limits_;  // of each call
  const bool is_limited_;
  const std::uint64_t random_;
  const std::shared_ptr<const ReservedWindow> window_;
  const hostcalls::GuestMemory memory_;
  memory::AddressSpace space_;
  const std::shared_ptr<Arena> arena_;
  PluginKernel kernel_;
  std::unique_ptr<GuestEngine> engine_;
  PluginTable gates_{};  // of which only the gates are used; never changes once a guest has begun
  Warden* warden_ = nullptr;
  std::atomic<pid_t> next_id_{kVirtualPid};

  std::atomic<bool> has_ended_{false};

  std::mutex start_mutex_;  // before mutex_
  std::atomic<bool> is_started_{false};  // a program has begun in the window

  // As many places as the policy says, with the guest threads that are lent to callers. Who takes one gives it back.
  std::vector<LentPlace> lent_ = std::vector<LentPlace>(policy_.host_threads);
  std::atomic<unsigned> waiting_{0};  // host threads that found none

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::optional<Failure> failure_;
  std::vector<PluginThread*> threads_;  // all of them
  unsigned running_by_themselves_ = 0;
  Functions functions_;
  std::vector<std::shared_ptr<const Callback>> callbacks_;

  // The same, for who has no lock: one is added and never changed.
  std::array<std::atomic<const Callback*>, DUNEBOX_MOST_CALLBACKS> callback_of_{};
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_INSTANCE_H_
