// How the collector finds out which old objects were written to since the last collection. All have the same members,
// which Heap is a template over: only the first has code at each store.
//
//   Stored(address)          a pointer was stored there
//   Cover(extent)            from now on; what was covered before is its beginning
//   TakeWritten(visitor)     the covered parts that were written to; they count as unwritten from here on
#ifndef DUNEBOX_EXAMPLES_GC_BARRIERS_H_
#define DUNEBOX_EXAMPLES_GC_BARRIERS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "dune/page_table.h"

namespace gc {

using WrittenVisitor = absl::FunctionRef<void(dune::Range)>;

// A byte for 512 bytes of memory, written at each store.
class CardBarrier {
 public:
  explicit CardBarrier(dune::Range space);
  void Stored(const void* address) { cards_[Card(reinterpret_cast<std::uintptr_t>(address))] = 1; }
  void Cover(dune::Range extent) { extent_ = extent; }
  void TakeWritten(WrittenVisitor visitor);

 private:
  static constexpr std::size_t kCardSize = 512;
  std::size_t Card(std::uintptr_t address) const { return (address - begin_) / kCardSize; }

  const std::uintptr_t begin_;
  std::vector<std::uint8_t> cards_;
  dune::Range extent_;
};

// By hand: write rights are taken with mprotect, and given back for a page in the handler of SIGSEGV. One at a time.
class ProtectionBarrier {
 public:
  explicit ProtectionBarrier(dune::Range space);
  ~ProtectionBarrier();
  ProtectionBarrier(const ProtectionBarrier&) = delete;
  ProtectionBarrier& operator=(const ProtectionBarrier&) = delete;

  void Stored(const void* /*address*/) {}
  void Cover(dune::Range extent);
  void TakeWritten(WrittenVisitor visitor);

 private:
  struct Pages;
  std::unique_ptr<Pages> pages_;
};

// libdune's dirty bits. The process has entered.
class DuneBarrier {
 public:
  explicit DuneBarrier(dune::Range space) : extent_{space.begin, 0} {}
  ~DuneBarrier();
  DuneBarrier(const DuneBarrier&) = delete;
  DuneBarrier& operator=(const DuneBarrier&) = delete;

  void Stored(const void* /*address*/) {}
  void Cover(dune::Range extent);
  void TakeWritten(WrittenVisitor visitor);

 private:
  dune::Range extent_;
};

// Knows nothing, so every collection has to be a full one: for comparison.
class NoBarrier {
 public:
  explicit NoBarrier(dune::Range /*space*/) {}
  void Stored(const void* /*address*/) {}
  void Cover(dune::Range /*extent*/) {}
  void TakeWritten(WrittenVisitor /*visitor*/) {}
};

// Ends the program: a collector that has lost track of what was written to must not go on.
[[noreturn]] void Die(const char* what);

}  // namespace gc

#endif  // DUNEBOX_EXAMPLES_GC_BARRIERS_H_
