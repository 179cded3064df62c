// The only place that turns a guest address into one of ours: checks it against
// the window, adds the base, and copies with a fault-fixup table.
//
// A copy may hit a page that a sibling thread unmaps in the middle, or a file
// page past the end: the fault becomes EFAULT, whoever's fault it was. No lock
// of the runtime may be held during a copy.
//
//   GuestMemory memory(Window::WholeProgram());
//   auto ts = memory.CopyIn(GuestPtr<timespec>{arg});   // std::expected-like
//   if (!ts.ok()) return ts.error();
#ifndef DUNEBOX_HOSTCALLS_MEMORY_GUEST_MEMORY_H_
#define DUNEBOX_HOSTCALLS_MEMORY_GUEST_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/functional/function_ref.h"
#include "hostcalls/memory/address.h"
#include "hostcalls/memory/paged_memory.h"
#include "hostcalls/result.h"

extern "C" int dunebox_store_8(void* to, std::uint64_t word);

namespace dunebox::hostcalls {

// Where guest addresses live in this process: host = base + guest, and only
// guest addresses in [lowest, limit) exist.
struct Window {
  std::uint64_t base = 0;
  std::uint64_t lowest = 0;
  std::uint64_t limit = 0;
  // The whole window belongs to the guest already, guards on either side included: what the guest
  // has not mapped is a reservation, so that nobody else of the process ever maps anything there.
  bool is_reserved = false;

  // The user half: bit 46 clear, the lowest 64 KiB never mapped (mmap_min_addr), nor the highest
  // (an operand may be a little beyond its base register). [DESIGN D2]
  static constexpr Window WholeProgram() { return {0, 0x1'0000, 0x3fff'ffff'0000}; }
  // What addresses of 32 bits reach: of whole programs too, as far as isolation `seg` goes.
  static constexpr Window SmallProgram() { return {0, 0x1'0000, 0x1'0000'0000}; }

  // The same addresses elsewhere in the user half, reserved by whoever says so: one of many in a
  // process that has a life of its own.
  static constexpr Window Embedded(std::uint64_t base) {
    return {base, 0x1'0000, 0x1'0000'0000, true};
  }

  // What FS and GS base may be: isolation relies on every [segment:displacement] being near the
  // window. For the guest the rest is like an address that is not canonical.
  constexpr bool AllowsSegmentBase(std::uint64_t value) const { return value < limit; }
};

// A value copied from the guest, or the Errno that goes back to it.
template <typename T>
class [[nodiscard]] CopyResult {
 public:
  CopyResult(T value) : value_(std::move(value)) {}  // NOLINT
  CopyResult(Errno error) : error_(error) {}         // NOLINT
  bool ok() const { return value_.has_value(); }
  Errno error() const { return error_; }
  T& operator*() & { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  const T& operator*() const& { return *value_; }
  T* operator->() { return &*value_; }

 private:
  std::optional<T> value_;
  Errno error_{0};
};

// Somebody who keeps host pages read-only that the guest may write (translated code) and has to know
// before the kernel or a copy touches them.
class MemoryWatcher {
 public:
  // Async-signal-unsafe; takes leaf locks only. The range is inside the window.
  virtual void BeforeAccess(std::uint64_t address, std::uint64_t size) = 0;
  bool is_watching() const { return is_watching_.load(std::memory_order_relaxed); }

 protected:
  ~MemoryWatcher() = default;
  void set_watching(bool watching) { is_watching_.store(watching, std::memory_order_relaxed); }

 private:
  std::atomic<bool> is_watching_{false};
};

class GuestMemory {
 public:
  explicit constexpr GuestMemory(Window window) : window_(window) {}
  // Of which the window says only what addresses there are: `pages`, which outlives this, says where they are.
  constexpr GuestMemory(Window window, const PagedMemory& pages) : window_(window), pages_(&pages) {}

  // Null: host = base + guest.
  const PagedMemory* pages() const { return pages_; }

  const Window& window() const { return window_; }
  // At most one; null takes it away. Before the first guest instruction.
  void SetWatcher(MemoryWatcher* watcher) const { watcher_ = watcher; }

  // True when all of [address, address + size) is inside the window. Size 0 is inside when
  // the address is one the kernel would accept (anything up to the limit). Every range that is
  // given to the kernel has been asked about here: the watcher hears of it.
  bool Contains(std::uint64_t address, std::uint64_t size) const;
  bool Contains(const GuestRange& range) const;

  // The host pointer for a range already known to be inside; nullptr when it is not, and of pages(). The
  // result is for the kernel and for the copy routines only: never dereference it.
  void* HostAddress(std::uint64_t address, std::uint64_t size) const;
  // The guest address of a host address inside the window.
  GuestVirt GuestAddress(const void* host) const;

  // Raw copies. True on success; false (EFAULT) when the range leaves the window or faults. A
  // failed copy may have transferred a prefix.
  [[nodiscard]] bool Read(std::uint64_t from, std::span<std::byte> to) const;
  [[nodiscard]] bool Write(std::uint64_t to, std::span<const std::byte> from) const;

  // The same for 1, 2, 4 or 8 bytes with one instruction: a sibling's aligned store is seen whole or not
  // at all, and so is an aligned one from here; what fails has changed nothing.
  [[nodiscard]] bool ReadAtOnce(std::uint64_t from, std::span<std::byte> to) const;
  [[nodiscard]] bool WriteAtOnce(std::uint64_t to, std::span<const std::byte> from) const;
  // The same of eight bytes: each call's return address.
  [[nodiscard]] bool WriteWord(std::uint64_t to, std::uint64_t word) const {
    const bool is_watched = watcher_ != nullptr && watcher_->is_watching();
    if (pages_ != nullptr || is_watched || !IsInside(to, sizeof(word))) {
      return WriteAtOnce(to, std::as_bytes(std::span(&word, 1)));
    }
    return dunebox_store_8(reinterpret_cast<void*>(window_.base + to), word) == 0;
  }

  template <typename T>
  CopyResult<T> CopyIn(GuestPtr<T> pointer) const {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    if (!Read(pointer.value, std::as_writable_bytes(std::span(&value, 1)))) return Errno{EFAULT};
    return value;
  }
  template <typename T>
  SyscallResult CopyOut(GuestPtr<T> pointer, const T& value) const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (!Write(pointer.value, std::as_bytes(std::span(&value, 1)))) return Errno{EFAULT};
    return kSuccess;
  }
  // A NUL-terminated string of at most `limit` bytes without its NUL; `too_long` (ENAMETOOLONG
  // for paths, E2BIG for argv) when there is no NUL within limit + 1 bytes.
  CopyResult<std::string> CopyInString(std::uint64_t from, std::size_t limit,
                                       Errno too_long) const;

  // Atomically replaces a futex word if it is `expected`. kFault also for an unaligned address.
  enum class Exchange : std::uint8_t { kDone, kOtherValue, kFault };
  Exchange CompareExchange(std::uint64_t address, std::uint32_t expected,
                           std::uint32_t desired) const;

  // Touches one byte without changing it: does the page have memory behind it right now?
  // (False past the end of a file, for PROT_NONE, for unmapped addresses.)
  bool Probe(std::uint64_t address) const;

 private:
  // Contains, for what is only read, and by us.
  bool IsInside(std::uint64_t address, std::uint64_t size) const {
    // Linux accepts any address below the limit with size 0, NULL included.
    if (size == 0) return address <= window_.limit;
    return address >= window_.lowest && address < window_.limit && size <= window_.limit - address;
  }
  // Of pages(): a visit a page, in order, with what comes before it.
  bool ForEachPage(std::uint64_t address, std::size_t size, PagedMemory::Use use,
                   absl::FunctionRef<void(std::byte* bytes, std::size_t before, std::size_t size)> visit) const;
  CopyResult<std::string> CopyInStringByPages(std::uint64_t from, std::size_t limit, Errno too_long) const;

  Window window_;
  const PagedMemory* pages_ = nullptr;
  mutable MemoryWatcher* watcher_ = nullptr;
};

// For the host's SIGSEGV/SIGBUS handler, async-signal-safe: when `rip` is inside a copy
// routine, the address to continue at (the copy then reports a fault); 0 when it is not.
std::uint64_t CopyFixupFor(std::uint64_t rip);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_MEMORY_GUEST_MEMORY_H_
