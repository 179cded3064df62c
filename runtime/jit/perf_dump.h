// --jit-perf-dump: translated code with its names and times, in the file from which `perf inject --jit` learns
// what lay where when (jitdump_format.h). Unlike a perf-PID.map it stays right when the code cache starts over, and
// has the code itself.
//
// Each process has its own DIR/jit-PID.dump, begun by its first program or when it is forked; a program that
// execve makes goes on behind what is there. perf hears of the file by an executable mapping of it. That one has the form of
// the code cache's, the only one that the second wall permits. Thread-safe.
#ifndef DUNEBOX_RUNTIME_JIT_PERF_DUMP_H_
#define DUNEBOX_RUNTIME_JIT_PERF_DUMP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "hostcalls/services/limits.h"
#include "jit-fallback/dispatch/translator.h"
#include "runtime/jit/block_names.h"
#include "runtime/memory/address_space.h"

namespace dunebox::runtime {

class PerfDump {
 public:
  struct Place {
    int directory = -1;       // stays open
    int report_fd = -1;       // standard error; so does this
    std::uint64_t since = 0;  // Now() when the session began: older files are other processes'
    std::size_t mapped = 0;   // bytes, of the executable mapping
  };
  // CLOCK_MONOTONIC, in nanoseconds.
  static std::uint64_t Now();

  // Goes on with this process's file, or makes one. `limits` and `space` outlive this.
  static absl::StatusOr<std::unique_ptr<PerfDump>> Create(hostcalls::VirtualLimits& limits,
                                                          const memory::AddressSpace& space,
                                                          const Place& place);
  ~PerfDump();
  PerfDump(const PerfDump&) = delete;
  PerfDump& operator=(const PerfDump&) = delete;

  // Preconditions: the caller holds no lock of the address space.
  void Add(const jit::MadeBlock& block);
  // The program ends, or another one takes its place; should that fail, it goes on.
  void Close();
  // In a forked child: its own file, with the code it has inherited. A child that cannot have one goes
  // on without.
  void ContinueAfterFork(std::span<const jit::MadeBlock> inherited);

  // Lock order: the address space's lock, then this one.
  void LockForFork() { mutex_.lock(); }
  void UnlockAfterFork() { mutex_.unlock(); }

 private:
  PerfDump(hostcalls::VirtualLimits& limits, const memory::AddressSpace& space, const Place& place)
      : limits_(limits), space_(space), place_(place), names_(limits) {}
  absl::Status Begin();
  // With its size and time filled in.
  void Write(std::vector<char>& record);
  // What cannot be written ends the file, and is said.
  void WriteBytes(const std::vector<char>& bytes);
  void Unmap();

  hostcalls::VirtualLimits& limits_;
  const memory::AddressSpace& space_;
  const Place place_;
  std::mutex mutex_;  // guards what follows
  hostcalls::ReservedFd file_;
  void* mapping_ = nullptr;
  std::uint32_t pid_ = 0;      // a vforked child's code is its parent's
  std::uint64_t written_ = 0;  // bytes in the file
  BlockNames names_;
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_PERF_DUMP_H_
