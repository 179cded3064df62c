// Why a call into a sandbox did not return: a value inside the absl::Status, so that a host can tell a
// crash from a deadline without reading messages. A sandbox in which a call has failed so is over until
// it is reset: other calls give the same failure.
//
//   absl::StatusOr<Tainted<int>> result = decode(pixels, 100);
//   if (std::optional<Failure> failure = FailureOf(result.status())) Log(failure->kind, failure->symbol);
#ifndef DUNEBOX_SANDBOX_FAILURE_H_
#define DUNEBOX_SANDBOX_FAILURE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace dunebox {

struct Failure {
  enum class Kind : std::uint8_t {
    // A CPU exception, or a signal that the plugin sent itself (abort): kAborted. With two walls also what ended
    // the worker process: SIGSYS where a system call was the second wall's to refuse, SIGKILL from outside.
    kTrap,
    kTimeout,   // the call's deadline: kDeadlineExceeded
    kExited,    // the plugin called exit: kAborted
    kDenied,    // a system call that the policy refuses, where that ends the sandbox: kPermissionDenied
    kMismatch,  // a call returned with another stack than it was entered with (longjmp): kAborted
    kCpuBudget,  // Policy::cpu_budget or idle_cpu_budget is used up: kResourceExhausted
    kInstructionBudget,  // Policy::instruction_budget is used up: kResourceExhausted
  };
  Kind kind = Kind::kTrap;
  int signal = 0;                   // kTrap
  int exit_status = 0;              // kExited
  std::uint64_t instruction = 0;    // guest address; 0: none
  std::uint64_t fault_address = 0;  // guest address that was accessed, where there is one
  std::string symbol;               // "libz.so.1.2.13: deflate+0x1f" for `instruction`; may be empty
  std::string call;                 // kDenied: the system call's name
  // Policy::memory_limit has refused memory to the thread that failed, since its call began (of one that the plugin has
  // started: since it began). Whether that is why it failed nobody knows: it was told ENOMEM. Where a worker has died, or
  // the host has ended it, nobody knows of this either.
  bool reached_memory_limit = false;
  // Of a compartment (compartment.h), where that is why: "read of region 'key' at offset 0x10".
  std::string missing_grant;
};

// The status for a failure, and back. Nothing for a status of another origin.
absl::Status ToStatus(const Failure& failure);
std::optional<Failure> FailureOf(const absl::Status& status);

}  // namespace dunebox

#endif  // DUNEBOX_SANDBOX_FAILURE_H_
