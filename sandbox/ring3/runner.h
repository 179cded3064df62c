// What runs one context at a time: a thread of the engine's, with the time limit of its run. Used by one host thread
// at a time, but for Kick.
//
//   absl::StatusOr<dune::Stop> stop = runner.Run(context, absl::Milliseconds(10));
#ifndef DUNEBOX_SANDBOX_RING3_RUNNER_H_
#define DUNEBOX_SANDBOX_RING3_RUNNER_H_

#include <sys/types.h>

#include <atomic>
#include <memory>

#include "dune/user.h"
#include "runtime/jit/jit_thread.h"
#include "sandbox/plugin/watchdog.h"

namespace dunebox::ring3 {

class Runner {
 public:
  // Of a JitEngine.
  explicit Runner(std::unique_ptr<runtime::EngineThread> thread);

  // The calling host thread is prepared (plugin::PrepareThread); what `context` says has been checked.
  absl::StatusOr<dune::Stop> Run(dune::UserContext& context, absl::Duration time);

 private:
  void Kick();
  // `handlers`: of the application's, that had run in this host thread before.
  absl::StatusOr<dune::Stop> RunUntilStop(runtime::Registers& registers, std::uint64_t handlers);

  const std::unique_ptr<runtime::JitThread> thread_;
  std::atomic<pid_t> host_thread_{0};  // that runs it now; 0: none
  plugin::Watch watch_;
};

}  // namespace dunebox::ring3

#endif  // DUNEBOX_SANDBOX_RING3_RUNNER_H_
