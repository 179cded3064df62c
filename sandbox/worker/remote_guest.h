// A guest in a confined process of its own: two walls. The worker is an Instance behind a filter of
// system calls, Landlock and namespaces (confine.h); this is the host's end of the memory in which
// both talk (protocol.h).
//
// The worker is taken to be hostile: the plugin may have broken out of the first wall. Whatever it
// says or does, the host gets wrong answers at most; what it does not answer in time ends it, and
// so does a breach of the protocol. When it dies, by whatever, every call fails with that.
//
//   absl::StatusOr<std::unique_ptr<Guest>> guest = RemoteGuest::Create(policy, random);
#ifndef DUNEBOX_SANDBOX_WORKER_REMOTE_GUEST_H_
#define DUNEBOX_SANDBOX_WORKER_REMOTE_GUEST_H_

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/memory/range_set.h"
#include "runtime/file_descriptor.h"
#include "sandbox/plugin/arena.h"
#include "sandbox/plugin/guest.h"
#include "sandbox/plugin/snapshot.h"
#include "sandbox/worker/channel.h"
#include "sandbox/worker/fork_server.h"
#include "sandbox/worker/keeper.h"
#include "sandbox/worker/shared_memory.h"
#include "sandbox/worker/wire.h"

namespace dunebox::worker {

class RemoteGuest final : public plugin::Guest, private Keeper::Ward {
 public:
  // kUnavailable: this machine cannot confine a process so, or not start one; the message says what
  // is missing.
  static absl::StatusOr<std::unique_ptr<plugin::Guest>> Create(const Policy& policy,
                                                               std::uint64_t random);
  // As it was when the snapshot was taken: a worker of its own, which has the snapshot's memory copy-on-write. So
  // who breaks out of one sandbox finds nothing of its clones there.
  static absl::StatusOr<std::unique_ptr<plugin::Guest>> Create(
      const Policy& policy, const plugin::InstanceSnapshot& snapshot);
  // The same in place of this one, whose process is gone; memory of both sides stays where it is.
  absl::StatusOr<std::unique_ptr<plugin::Guest>> Successor(const plugin::InstanceSnapshot& snapshot);
  // The worker has ended, and nobody has to wait for it any more.
  ~RemoteGuest() override;

  absl::Status Load(const std::string& path) override;
  absl::StatusOr<std::uint64_t> FindSymbol(const std::string& name) override;
  absl::StatusOr<internal::CallResult> Call(std::uint64_t function,
                                            const internal::CallFrame& frame) override;
  absl::StatusOr<std::uint64_t> AddCallback(
      std::shared_ptr<const internal::Callback> callback) override;
  absl::StatusOr<internal::Block> Allocate(std::size_t size) override;
  // The worker writes its memory into a file that is the host's, and seals it.
  absl::StatusOr<std::shared_ptr<const plugin::InstanceSnapshot>> Snapshot() override;
  // By the worker itself. kAborted: there is no worker that could; then a Successor is needed.
  absl::Status ReturnTo(const plugin::InstanceSnapshot& snapshot) override;
  absl::StatusOr<internal::Block> Claim(std::uint64_t address, std::size_t size) override;
  bool IsCalledByThisThread() const override;
  void EndNow() override;
  bool Read(std::uint64_t from, std::span<std::byte> to) const override;
  bool Write(std::uint64_t to, std::span<const std::byte> from) override;
  absl::StatusOr<std::string> ReadString(std::uint64_t from, std::size_t most) const override;
  std::optional<Failure> failure() const override;
  std::string TakeOutput() override;
  std::vector<std::string> Denials() const override;
  std::string engine() const override { return engine_; }
  std::string isolation() const override { return isolation_; }
  std::vector<std::string> confinement() const override { return confinement_; }

 private:
  // A conversation, in the hands of one host thread.
  struct Line {
    Line(RemoteGuest& of, Slot& slot) : guest(of), channel(slot.to_worker, slot.to_host) {}
    RemoteGuest& guest;
    Channel channel;
    unsigned depth = 0;               // of calls
    std::uint64_t deadline = kNever;  // of the innermost
    Line* outer = nullptr;            // another one that the same thread has
  };
  class Held;
  class AllLines;

  explicit RemoteGuest(const Policy& policy);
  // Of the window's 4 GiB, which the plugin's own memory has to fit into, too.
  static constexpr std::uint64_t kMostShared = std::uint64_t{1} << 30;
  // For what no plugin's code has a part in.
  static constexpr absl::Duration kManagerTime = absl::Seconds(30);
  static std::uint64_t SharedSizeOf(const Policy& policy);
  // What the host does when the worker has not kept to the protocol.
  static absl::Status Breach();
  // An end while it starts is no failure of a plugin's.
  static absl::Status CheckStarted(const absl::Status& status);
  absl::Status Start(std::uint64_t random);
  static absl::StatusOr<std::unique_ptr<plugin::Guest>> CreateFrom(
      const Policy& policy, const plugin::InstanceSnapshot& snapshot, const RemoteGuest* before);
  absl::Status StartFrom(const plugin::InstanceSnapshot& snapshot, const RemoteGuest* before);
  // A process, with the memory of both sides.
  absl::Status StartWorker();
  absl::Status MakeShared(std::uint64_t size);
  // Files for the worker's order, which it takes in this order.
  absl::Status SendSnapshot(const plugin::InstanceSnapshot& snapshot, StartOrder& order);
  absl::Status GiveOrder(StartOrder order);

  void OnDeath() override;
  bool OnDoorbell() override;

  Slot& slot(std::uint32_t index) const { return control_->As<Slot>()[index]; }
  // What the worker says: bytes behind a status that is OK.
  absl::StatusOr<std::string> Ask(Line& line, Operation operation, std::string_view bytes,
                                  absl::Duration time);
  absl::StatusOr<std::string> AskOnLine(Operation operation, std::string_view bytes,
                                        absl::Duration time);
  // For what needs no guest thread.
  absl::StatusOr<std::string> AskManager(Operation operation, std::string_view bytes) const;
  // The same, of several times that have one limit together: takes from `patience` what it has waited.
  absl::StatusOr<std::string> AskManager(Operation operation, std::string_view bytes,
                                         absl::Duration& patience) const;
  // What the host calls something of the plugin's by. For anything else none of its code runs, and a callback that asks
  // something of the sandbox could wait for itself.
  static bool MayCallBack(Operation operation);
  absl::StatusOr<std::string> Answer(const Message& message);
  bool RunCallback(Line& line, const Message& message);
  bool RunOutput(Line& line, const Message& message);
  // What came of it, as of write(2), with an errno below zero; no later than the line's deadline.
  std::int64_t WriteOut(const Line& line, int fd, std::string_view text) const;
  // What serving a thread of the plugin's may use of a processor while the host makes no call.
  struct IdleBudget {
    std::uint64_t calls = kNever;  // that the host had begun
    std::uint64_t limit = 0;       // of the serving thread's time
  };
  bool HasIdleTime(IdleBudget& budget) const;
  void ServePluginThread(Line& line);
  // The number by which the worker finds it; 0: it was not sent.
  std::uint32_t SendFile(int fd);
  // The same with a file that the host has named; 0: there is none.
  std::uint32_t SendFile(const std::string& path, std::string& name);
  // What both sides have of what the snapshot has, and nothing else.
  void RestoreShared(const plugin::InstanceSnapshot& snapshot);
  absl::StatusOr<memory::RangeSet> CopyShared(const plugin::ArenaState& state, int fd) const;
  absl::StatusOr<std::shared_ptr<const plugin::InstanceSnapshot>> Believe(
      std::string_view described, runtime::FileDescriptor image, plugin::ArenaState shared,
      const memory::RangeSet& contents);
  std::optional<std::string> ReadSome(std::uint64_t from, std::uint64_t size,
                                      absl::Duration& patience) const;
  std::string FetchText(std::uint32_t which, std::uint64_t most) const;

  Line* TakeLine();
  void GiveBack(Line& line);

  absl::Status EndedStatus() const;
  // The first failure counts.
  void Note(const absl::Status& status);
  // No more calls: its process has ended, or is about to, or says so.
  bool IsOver() const;
  // The worker has done what it must not, or did not answer.
  absl::Status Break(const absl::Status& why);
  // How it has ended; nothing: somebody has looked already, or nobody knows.
  std::optional<int> EndProcess();
  // Nobody waits for it any more.
  void WakeAll();
  std::byte* SharedAt(std::uint64_t address, std::uint64_t size) const;
  // From its guest addresses to the host's.
  std::uint64_t OffsetOf(std::uint64_t start) const {
    return reinterpret_cast<std::uint64_t>(shared_->bytes().data()) - start;
  }

  const Policy& policy_;
  const SlotCounts counts_;
  std::shared_ptr<ForkServer> server_;
  std::optional<SharedMemory> control_;
  std::shared_ptr<SharedMemory> shared_;  // the arena's
  std::uint64_t shared_start_ = 0;        // its guest address
  std::shared_ptr<std::atomic<bool>> is_shared_given_ = std::make_shared<std::atomic<bool>>(false);
  std::shared_ptr<plugin::Arena> arena_;
  runtime::FileDescriptor doorbell_, files_, pidfd_;
  runtime::FileDescriptor stdout_, stderr_;  // where output goes besides, if anywhere
  std::vector<std::string> confinement_;
  std::string engine_, isolation_;
  std::uint64_t ward_ = 0;

  std::mutex process_mutex_;  // guards what follows
  pid_t pid_ = 0;             // 0: none, or it was waited for

  std::atomic<bool> has_ended_{false};  // nobody answers any more
  std::atomic<std::uint64_t> calls_begun_{0}, calls_ended_{0};

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::optional<Failure> failure_;
  std::vector<Line*> free_lines_;
  std::vector<std::shared_ptr<const internal::Callback>> callbacks_;
  std::vector<pthread_t> plugin_threads_;
  std::vector<bool> is_served_;  // of the worker's slots
  std::vector<std::string> named_;  // libraries that the host has named
  // Of the snapshot that the worker can go back to; null: none. Not to be used but to be compared.
  const plugin::InstanceSnapshot* current_ = nullptr;
  std::uint32_t idle_rings_ = 0;
  std::uint32_t next_file_ = 1;

  std::deque<Line> lines_;            // of all slots; each has one owner
  mutable std::mutex manager_mutex_;  // held for a conversation in the first slot
  std::mutex adding_mutex_;           // one callback at a time
};

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_REMOTE_GUEST_H_
