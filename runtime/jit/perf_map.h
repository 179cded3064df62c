// --jit-perf-map: names for translated code, in the file in which perf looks for those of a process
// whose code comes from no file. [linux] tools/perf/Documentation/jit-interface.txt
//
//   7f12c0000040 5d guest:libc.so.6+0x3e682 exit+0x2
//
// Each process has its own file, begun when its program starts, or as a copy of its parent's when
// it is forked; a line is appended for every block. Thread-safe.
#ifndef DUNEBOX_RUNTIME_JIT_PERF_MAP_H_
#define DUNEBOX_RUNTIME_JIT_PERF_MAP_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/status/statusor.h"
#include "hostcalls/services/limits.h"
#include "runtime/jit/block_names.h"
#include "runtime/memory/address_space.h"

namespace dunebox::runtime {

class PerfMap {
 public:
  static constexpr const char* kDirectory = "/tmp";

  // Makes perf-PID.map there anew. Both outlive this; standard error in `report_fd` stays open.
  static absl::StatusOr<std::unique_ptr<PerfMap>> Create(hostcalls::VirtualLimits& limits,
                                                         const memory::AddressSpace& space, int report_fd);

  // Preconditions: the caller holds no lock of the address space.
  void Add(std::uint64_t pc, std::uint64_t host, std::uint32_t size);

  // In a forked child: its own file, with what is known of the code it has inherited. A child that
  // cannot have one (it has another root, say) goes on without names. So does who finds no room for more.
  void ContinueAfterFork();

  // Lock order: the address space's lock, then this one.
  void LockForFork() { mutex_.lock(); }
  void UnlockAfterFork() { mutex_.unlock(); }

 private:
  PerfMap(hostcalls::ReservedFd file, hostcalls::VirtualLimits& limits,
          const memory::AddressSpace& space, int report_fd)
      : limits_(limits), space_(space), report_fd_(report_fd), file_(std::move(file)), names_(limits) {}

  hostcalls::VirtualLimits& limits_;
  const memory::AddressSpace& space_;
  const int report_fd_;
  std::mutex mutex_;  // guards what follows
  hostcalls::ReservedFd file_;
  std::uint64_t written_ = 0;  // bytes; a forked child's parent may write more
  BlockNames names_;
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_PERF_MAP_H_
