// Sees that workers die, and hears when one speaks first: a thread for all workers of the process,
// asleep until then. Signals of the application's do not go to it.
//
//   class Guest : Keeper::Ward { void OnDeath() override; void OnDoorbell() override; };
//   absl::StatusOr<std::uint64_t> id = Keeper::Instance().Add(*this, pidfd, doorbell);
//   Keeper::Instance().Remove(*id);   // it is not called any more
#ifndef DUNEBOX_SANDBOX_WORKER_KEEPER_H_
#define DUNEBOX_SANDBOX_WORKER_KEEPER_H_

#include <cstdint>
#include <map>
#include <mutex>

#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"

namespace dunebox::worker {

class Keeper {
 public:
  // Called by the keeper's thread, which holds its lock: they must not call the keeper.
  class Ward {
   public:
    virtual ~Ward() = default;
    // Once.
    virtual void OnDeath() = 0;
    // The eventfd has been written to, and was emptied. False: it is not to be listened to any
    // more.
    virtual bool OnDoorbell() = 0;
  };

  static Keeper& Instance();

  // The descriptors stay open until Remove.
  absl::StatusOr<std::uint64_t> Add(Ward& ward, int pidfd, int doorbell);
  void Remove(std::uint64_t id);

 private:
  struct Entry {
    Ward* ward;
    int pidfd, doorbell;
  };

  Keeper();
  [[noreturn]] void Main();
  bool Listen(int fd, std::uint64_t token);
  void Ignore(int fd);
  void OnEvent(std::uint64_t token);

  const runtime::FileDescriptor poll_;
  std::mutex mutex_;  // guards what follows
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, Entry> entries_;
};

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_KEEPER_H_
