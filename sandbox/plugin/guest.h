// What a Sandbox keeps its plugin in: one guest, from its start to whatever ends it. It begins once
// and ends once; Sandbox makes another one to start over. The seam between the public API and the
// ways of running a plugin: Instance, in this process, and whatever else can do the same.
//
// Called by any host thread, several at once. What it returns of the plugin's is not to be trusted:
// numbers, addresses and texts may be anything.
//
//   absl::StatusOr<std::unique_ptr<Guest>> guest = MakeGuest(policy, random);
//   absl::StatusOr<std::uint64_t> compress = (*guest)->FindSymbol("compress");
//   absl::StatusOr<CallResult> result = (*guest)->Call(*compress, frame);
#ifndef DUNEBOX_SANDBOX_PLUGIN_GUEST_H_
#define DUNEBOX_SANDBOX_PLUGIN_GUEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dunebox/call.h"
#include "dunebox/failure.h"
#include "dunebox/memory.h"
#include "dunebox/policy.h"

namespace dunebox::plugin {

struct InstanceSnapshot;

class Guest {
 public:
  Guest() = default;
  // No call is under way. Waits for the plugin's own threads, so only in the process that made it: a forked child
  // has none of them, and locks that they hold for ever.
  virtual ~Guest() = default;
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  virtual absl::Status Load(const std::string& path) = 0;
  virtual absl::StatusOr<std::uint64_t> FindSymbol(const std::string& name) = 0;
  virtual absl::StatusOr<internal::CallResult> Call(std::uint64_t function,
                                                    const internal::CallFrame& frame) = 0;
  // The guest address of a function that calls `callback`. It stays for good.
  virtual absl::StatusOr<std::uint64_t> AddCallback(
      std::shared_ptr<const internal::Callback> callback) = 0;
  // Memory of both sides. kResourceExhausted: no room.
  virtual absl::StatusOr<internal::Block> Allocate(std::size_t size) = 0;

  // Whether the calling thread is in it: in a callback, whoever it was called by.
  virtual bool IsCalledByThisThread() const = 0;

  // What runs in it ends soon, and nothing begins any more: it is about to be destroyed.
  virtual void EndNow() = 0;

  // ---- snapshots, between calls

  // kFailedPrecondition: a call is under way, threads of the plugin's run, or it has ended.
  virtual absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> Snapshot() = 0;
  // To one that was taken of this, or that it was made from; also after its end. kAborted: only by ReplaceGuest.
  virtual absl::Status ReturnTo(const InstanceSnapshot& snapshot) = 0;
  // The part of the memory of both sides that was given out before the snapshot that this was made from.
  // kNotFound: there is no such part, or it was claimed.
  virtual absl::StatusOr<internal::Block> Claim(std::uint64_t address, std::size_t size) = 0;

  // As a clone of the snapshot begins, which is that of its memory: nothing of its own is left, nor of its owner's. No
  // call is under way. False: it cannot, and is not to be used any more.
  virtual bool BeginAgain(const InstanceSnapshot& snapshot) {
    (void)snapshot;
    return false;
  }

  // Copies. False: not all of it is memory of the plugin's; a prefix may have been copied.
  virtual bool Read(std::uint64_t from, std::span<std::byte> to) const = 0;
  virtual bool Write(std::uint64_t to, std::span<const std::byte> from) = 0;
  // Up to its NUL, which is among the first `most` + 1 bytes; else kOutOfRange.
  virtual absl::StatusOr<std::string> ReadString(std::uint64_t from, std::size_t most) const = 0;

  // Why calls fail; nothing while they do not.
  virtual std::optional<Failure> failure() const = 0;
  // What the plugin has written since the last time.
  virtual std::string TakeOutput() = 0;
  virtual std::vector<std::string> Denials() const = 0;

  // "jit", "seg", and what the host's kernel keeps it in besides ("seccomp", "landlock", ...).
  virtual std::string engine() const = 0;
  virtual std::string isolation() const = 0;
  virtual std::vector<std::string> confinement() const = 0;
};

// Of the kind that the policy asks for. The same `random` bits give the same guest addresses.
absl::StatusOr<std::unique_ptr<Guest>> MakeGuest(const Policy& policy, std::uint64_t random);
// That is as it was when the snapshot was taken, under the same policy.
absl::StatusOr<std::unique_ptr<Guest>> CloneGuest(const Policy& policy,
                                                  const InstanceSnapshot& snapshot);
// The same in place of one that is gone for good; memory of both sides keeps its place.
absl::StatusOr<std::unique_ptr<Guest>> ReplaceGuest(Guest& gone, const InstanceSnapshot& snapshot);
// From a snapshot that SaveSnapshot has written, and with it.
struct OpenedGuest {
  std::unique_ptr<Guest> guest;
  std::shared_ptr<const InstanceSnapshot> snapshot;
};
absl::StatusOr<OpenedGuest> OpenGuest(const Policy& policy, const std::string& path);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_GUEST_H_
