// Breakpoints and watched memory of one process, for an engine that stops at breakpoints by itself and
// for one that executes what memory holds: there an INT3 is written, and whoever reads through here
// never sees it. Memory is watched for changes by its value, looked at after each instruction of any thread, and
// for accesses by what each instruction accesses (step_accesses.h).
//
// Used while the threads stand still, but for Hit, and by a thread that leaves for vfork or comes back from it, which
// nobody waits for: thread-safe. Its lock is taken before the address space's.
//
//   MemoryPatches memory(space, engine);
//   if (memory.AddBreakpoint(0x401000)) ...
#ifndef DUNEBOX_RUNTIME_DEBUGGER_MEMORY_PATCHES_H_
#define DUNEBOX_RUNTIME_DEBUGGER_MEMORY_PATCHES_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine.h"
#include "runtime/memory/address_space.h"

namespace dunebox::debugger {

enum class WatchKind : std::uint8_t {
  kChange,
  kRead,
  kAccess,  // read or written
};

// What an instruction has accessed.
struct AccessedRange {
  std::uint64_t address, size;
  bool reads, writes;
};

struct WatchHit {
  WatchKind kind;
  std::uint64_t address;  // of the watched range
};

class MemoryPatches {
 public:
  MemoryPatches(memory::AddressSpace& space, runtime::ExecutionEngine& engine)
      : space_(space), engine_(&engine), engine_stops_(engine.SetBreakpoints({})) {}

  // As much of the range as can be read, from its beginning.
  std::string Read(std::uint64_t address, std::uint64_t size) const;
  bool Write(std::uint64_t address, std::string_view bytes);

  // False: there is no memory, or it cannot be changed.
  bool AddBreakpoint(std::uint64_t address);
  bool RemoveBreakpoint(std::uint64_t address);
  bool HasBreakpoint(std::uint64_t address) const;
  // Takes all out of the way until PutBack, also those that are added meanwhile: a child has the memory. Several may at a
  // time.
  void Lift();
  void PutBack();
  // Takes all away.
  void Clear();
  // In a forked child, whose memory is a copy and whose engine may be another one. Who had the lock is not there.
  void ClearInChild(runtime::ExecutionEngine& engine);

  bool Watch(WatchKind kind, std::uint64_t address, std::uint64_t size);
  bool Unwatch(WatchKind kind, std::uint64_t address, std::uint64_t size);
  bool is_watching() const;
  bool is_watching_accesses() const;
  // The first watched range that is not what it was, or was when it was last said to be; else the first that was accessed.
  std::optional<WatchHit> Hit(std::span<const AccessedRange> accessed);

 private:
  struct Watched {
    WatchKind kind;
    std::uint64_t address;
    std::string value;
    bool IsHitBy(const AccessedRange& range) const;
  };
  // All of these with the lock.
  std::string ReadLocked(std::uint64_t address, std::uint64_t size) const;
  void LiftLocked();
  bool HasInt3sLocked() const { return !engine_stops_ && lifted_ == 0; }
  void ApplyLocked();
  bool PokeLocked(std::uint64_t address, std::byte byte);

  memory::AddressSpace& space_;
  mutable std::mutex mutex_;  // guards what follows, and what memory has of it
  runtime::ExecutionEngine* engine_;
  const bool engine_stops_;  // at breakpoints, without anything in memory
  std::map<std::uint64_t, std::byte> breakpoints_;  // with the byte that the program has there
  std::vector<Watched> watched_;
  int lifted_ = 0;  // so many have taken them out and not put them back
};

}  // namespace dunebox::debugger

#endif  // DUNEBOX_RUNTIME_DEBUGGER_MEMORY_PATCHES_H_
