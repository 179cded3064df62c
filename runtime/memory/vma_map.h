// The guest's memory map as values: which ranges exist, with which rights, backed by what.
//
// Pure bookkeeping, no system call, no lock; AddressSpace keeps it equal to what the host has.
// Neighbours that differ in nothing are merged, so a million small mmaps stay cheap.
//
//   VmaMap map;
//   map.Replace({.range = {...}, .protection = {.read = true}});
//   if (const Vma* vma = map.Find(address)) ...
#ifndef DUNEBOX_RUNTIME_MEMORY_VMA_MAP_H_
#define DUNEBOX_RUNTIME_MEMORY_VMA_MAP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "hostcalls/memory/address.h"
#include "runtime/memory/range_set.h"

namespace dunebox::memory {

// What the guest may do with a page. On x86 each of write and execute implies read.
struct Protection {
  bool read = false;
  bool write = false;
  bool execute = false;

  static Protection FromProt(int prot);
  int ToProt() const;
  // The protection of the host mapping behind it: never executable. [DESIGN D5]
  int ToHostProt() const;
  bool any() const { return read || write || execute; }
  bool operator==(const Protection&) const = default;
};

enum class Sharing : std::uint8_t { kPrivate, kShared };

// What is behind a range, as /proc/self/maps shows it.
struct Backing {
  std::string name;  // path, "[heap]", "[stack]", "" for anonymous memory
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool writable = false;  // opened for writing: neighbours that differ in it cannot be merged
  bool never_executable = false;  // of a file system that is mounted so
  std::uint64_t segment_bytes = 0;  // of a System V segment, for shmdt; 0: it is none
  std::uint64_t page_bytes = kPageSize;  // more: the kernel maps and unmaps whole pages of this size only
  bool operator==(const Backing&) const = default;
};

// Of anonymous memory with that name; null for none.
std::shared_ptr<const Backing> Named(std::string name);

struct Vma {
  GuestRange range;
  Protection protection;
  Sharing sharing = Sharing::kPrivate;
  bool file_backed = false;  // an access can fail with SIGBUS
  bool sealed = false;       // may not be changed (vvar, vDSO)
  bool is_left_behind = false;  // a forked child does not have it (MADV_DONTFORK)
  // Shared memory without a file that was mapped here and is nowhere else yet: in no other process, at no other address.
  bool is_only_view = false;
  std::uint64_t offset = 0;  // of range.start in the file
  std::shared_ptr<const Backing> backing;  // null: anonymous

  std::uint64_t page_bytes() const { return backing == nullptr ? kPageSize : backing->page_bytes; }
};

// The stack that the program began with.
bool IsStack(const Vma& vma);

// Memory of --mem: what the kernel calls data, and what only looks shared.
bool IsData(const Vma& vma);
// Memory that the host has in common with others, and no part of what an image keeps.
inline bool IsSharedByHost(const Vma& vma) { return vma.sealed && vma.sharing == Sharing::kShared; }

// How much memory there is, as the kernel counts it for RLIMIT_AS and RLIMIT_DATA; but not the stack, of which the kernel
// counts what is used.
struct MemorySizes {
  std::uint64_t all = 0;
  std::uint64_t data = 0;  // private and writable
  MemorySizes& operator+=(const MemorySizes& other) {
    all += other.all, data += other.data;
    return *this;
  }
  MemorySizes& operator-=(const MemorySizes& other) {
    all -= other.all, data -= other.data;
    return *this;
  }
  bool operator==(const MemorySizes&) const = default;
};
MemorySizes SizesOf(const Vma& vma);

class VmaMap {
 public:
  const Vma* Find(GuestVirt address) const;
  // The first VMA that ends after `address`; nullptr when there is none.
  const Vma* FindFrom(GuestVirt address) const;
  bool Overlaps(const GuestRange& range) const;
  // No hole in the range.
  bool Covers(const GuestRange& range) const;
  bool AnySealed(const GuestRange& range) const;

  // Puts `vma` in place of whatever was in its range.
  void Replace(Vma vma);
  void Erase(const GuestRange& range);
  // Changes the rights of the VMAs in the range; holes stay holes.
  void SetProtection(const GuestRange& range, Protection protection);
  void SetLeftBehind(const GuestRange& range, bool is_left_behind);
  void EndOnlyView(const GuestRange& range);

  // The highest free place of `size` bytes inside `bounds`, at a multiple of `alignment`.
  // It takes as long as there are holes to pass, whatever the number of VMAs.
  std::optional<GuestVirt> FindGapTopDown(const GuestRange& bounds, std::uint64_t size,
                                          std::uint64_t alignment) const {
    return used_.FindGapTopDown(bounds, size, alignment);
  }

  // In ascending order; the callback returns false to stop.
  void ForEach(const std::function<bool(const Vma&)>& visit) const;
  void ForEachIn(const GuestRange& range, const std::function<bool(const Vma&)>& visit) const;
  std::size_t size() const { return vmas_.size(); }

  // Of all memory, at no cost, and of what lies in a range.
  const MemorySizes& sizes() const { return sizes_; }
  MemorySizes SizesIn(const GuestRange& range) const;

 private:
  using Vmas = std::map<std::uint64_t, Vma>;  // by start

  // Takes the VMAs of the range away, but not from `used_`.
  void Drop(const GuestRange& range);
  void Change(const GuestRange& range, const std::function<void(Vma&)>& change);
  // Makes `address` a boundary between two VMAs if it is inside one.
  void SplitAt(GuestVirt address);
  void MergeAround(const GuestRange& range);
  static bool CanMerge(const Vma& left, const Vma& right);

  Vmas vmas_;
  RangeSet used_;  // what they cover, neighbours as one: a program may have tens of thousands
                   // without a hole between them
  MemorySizes sizes_;
};

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_VMA_MAP_H_
