// The three ways in which a guest thread makes another thread of execution. Each returns the
// child's id in the parent; the child runs the same loop on its own.
#ifndef DUNEBOX_RUNTIME_PROCESS_CLONE_H_
#define DUNEBOX_RUNTIME_PROCESS_CLONE_H_

#include <cstdint>

#include "hostcalls/result.h"
#include "runtime/process/guest_thread.h"

namespace dunebox::process {

struct CloneRequest {
  std::uint64_t flags = 0;  // CLONE_*, checked against the shape
  int exit_signal = 0;      // what the parent gets when the child ends; 0: nothing
  std::uint64_t stack = 0;  // the child's RSP; 0: the parent's
  std::uint64_t parent_tid = 0;
  std::uint64_t pidfd = 0;  // with CLONE_PIDFD
  std::uint64_t child_tid = 0;
  std::uint64_t tls = 0;
};

// A host thread of its own with a vCPU of its own. EAGAIN when either cannot be had.
hostcalls::SyscallResult StartThread(GuestThread& parent, const CloneRequest& request);
// Host fork; the child builds a new engine over its copy of the memory.
hostcalls::SyscallResult ForkProcess(GuestThread& parent, const CloneRequest& request);
// A host process in the same memory with a vCPU of the same VM; the parent waits until it has
// executed a program or ended.
hostcalls::SyscallResult VforkProcess(GuestThread& parent, const CloneRequest& request);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_CLONE_H_
