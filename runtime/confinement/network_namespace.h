// A network namespace of this process's own, in which there is a loopback interface that is up. The kernel takes longer to
// make one than all others, so a thread does it while this one goes on with something else.
//
//   OwnNetwork network(true);                            // begins
//   ...
//   absl::StatusOr<bool> entered = network.Enter();      // false: the kernel refuses to make one
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_NETWORK_NAMESPACE_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_NETWORK_NAMESPACE_H_

#include <pthread.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"

namespace dunebox::confinement {

class OwnNetwork {
 public:
  // By a thread, where it may have one; else all is left to Enter.
  explicit OwnNetwork(bool may_have_thread);
  ~OwnNetwork();
  OwnNetwork(const OwnNetwork&) = delete;
  OwnNetwork& operator=(const OwnNetwork&) = delete;

  // By the thread that has begun it; once.
  absl::StatusOr<bool> Enter();
  bool had_thread() const { return had_thread_; }

 private:
  static void* Make(void* self);
  void Join();

  runtime::FileDescriptor made_;  // by the thread: the namespace
  pthread_t thread_{};
  const bool had_thread_;
  bool has_thread_ = had_thread_;  // that has not been waited for
};

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_NETWORK_NAMESPACE_H_
