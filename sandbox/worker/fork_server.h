// Starts workers, ends them, and is their parent: a small process of ours, one for each host
// process that has sandboxes with two walls, begun with the first of them.
//
// The host itself is no good parent. It has threads, so it cannot fork; memory, which no child
// should see; and a child that executes something sends SIGCHLD when it ends and turns up in the
// host's own wait(). The fork server is started like vfork by a child that ends at once and makes
// no signal, so it is nobody's that the host would notice (where the host itself adopts orphans, as
// the first process of a container does, it is adopted, and is seen when it ends: never before the
// host closes its end of the socket).
//
// It ends when the host does, which it sees by a pidfd, and the kernel ends its workers with it.
//
//   absl::StatusOr<std::shared_ptr<ForkServer>> server = ForkServer::Get();
//   absl::StatusOr<ForkServer::Child> child = (*server)->Start(Role::kWorker, descriptors);
//   std::optional<int> status = (*server)->End(child->pid);
#ifndef DUNEBOX_SANDBOX_WORKER_FORK_SERVER_H_
#define DUNEBOX_SANDBOX_WORKER_FORK_SERVER_H_

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"
#include "sandbox/worker/protocol.h"

namespace dunebox::worker {

class ForkServer {
 public:
  // The process's; a new one if the last has died, or was started by who this process is no more: by another user, with
  // other groups, or in another root directory. Thread-safe, as everything here.
  static absl::StatusOr<std::shared_ptr<ForkServer>> Get();

  struct Child {
    pid_t pid;
    runtime::FileDescriptor pidfd;  // readable when it has ended
  };
  // A process that begins with these, from number 3 on, and nothing else.
  absl::StatusOr<Child> Start(Role role, std::span<const int> descriptors);
  // The same in two steps, between which there is time for something else. Nobody has to take the second; who takes it
  // again has the number alone.
  class Begun;
  absl::StatusOr<std::shared_ptr<Begun>> Begin(Role role, std::span<const int> descriptors);
  absl::StatusOr<Child> Finish(Begun& begun);
  // Kills it if it lives, and says how it has ended, as of wait(2). Nothing: the server has died,
  // and the worker with it.
  std::optional<int> End(pid_t pid);

 private:
  explicit ForkServer(runtime::FileDescriptor socket) : socket_(std::move(socket)) {}
  static absl::StatusOr<std::shared_ptr<ForkServer>> Launch();
  bool IsAlive() const;
  // With the mutex.
  bool Ask(const ForkRequest& request, std::span<const int> descriptors);
  bool Receive(ForkReply& reply, std::vector<runtime::FileDescriptor>& came);
  void TakeOwed();

  std::mutex mutex_;  // held for a request and its reply, or for one of the two
  std::shared_ptr<Begun> owed_;  // whose reply comes next, before anything else is asked
  const runtime::FileDescriptor socket_;
};

// Who has been asked for. Thread-safe by its fork server's mutex.
class ForkServer::Begun {
  friend ForkServer;
  absl::StatusOr<Child> child_ = absl::UnavailableError("not answered");
};

// The fork server's own main function.
int ForkServerMain();

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_FORK_SERVER_H_
