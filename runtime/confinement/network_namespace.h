// A network namespace of this process's own, in which there is a loopback interface that is up. The kernel takes longer to
// make one than all others, so a thread does it while this one goes on with something else.
//
//   OwnNetwork network;                                  // begins
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
  OwnNetwork();
  ~OwnNetwork();
  OwnNetwork(const OwnNetwork&) = delete;
  OwnNetwork& operator=(const OwnNetwork&) = delete;

  // By the thread that has begun it; once.
  absl::StatusOr<bool> Enter();

 private:
  static void* Make(void* self);
  void Join();

  pthread_t thread_;
  bool has_thread_;
  runtime::FileDescriptor made_;  // by the thread: the namespace
};

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_NETWORK_NAMESPACE_H_
