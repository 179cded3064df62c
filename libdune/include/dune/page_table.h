// Page tables as objects. Current() is the process's own address space, which every backend has; others are made
// empty or cloned, and become the calling thread's by Activate (separate_tables). An address is valid in a table only
// where Map, Protect or the process's own mappings made it so.
//
//   dune::PageTable& table = dune::PageTable::Current();
//   absl::Status tracked = table.Track(heap, dune::Tracking::kDirty);
//   absl::Status harvested = table.TestAndClearDirty(heap, [&](dune::Range written) { Scan(written); });
//
// Addresses are in bytes; ranges are of whole 4 KiB pages (2 MiB for PageSize::k2MiB, and where such a page is mapped), else
// kInvalidArgument.
// Thread-safe; a change is seen by every thread that uses the table before the call returns (shoot-down), unless the
// call says otherwise. Visitors must not change the table that they are called for; others wait
// meanwhile.
#ifndef DUNE_PAGE_TABLE_H_
#define DUNE_PAGE_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dune {

inline constexpr std::size_t kPageSize = 4096;
inline constexpr std::size_t kLargePageSize = std::size_t{2} << 20;

struct Range {
  std::uintptr_t begin = 0;
  std::size_t size = 0;

  constexpr std::uintptr_t end() const { return begin + size; }
  constexpr bool operator==(const Range&) const = default;
};

enum class Rights : std::uint8_t { kNone = 0, kRead = 1, kReadWrite = 3, kReadExecute = 5, kAll = 7 };

// Who may use a mapping: ring 0 alone, or ring 3 as well.
enum class Ring : std::uint8_t { kSupervisor, kUser };

enum class PageSize : std::uint8_t { k4KiB, k2MiB };

enum class Tracking : std::uint8_t { kDirty, kAccessed };

// What a table says about one page, or about one large page.
struct Mapping {
  Range page;            // of kPageSize or kLargePageSize
  std::uintptr_t memory = 0;  // the address of the same memory in Current()
  Rights rights = Rights::kNone;
  Ring ring = Ring::kSupervisor;
  bool dirty = false;
  bool accessed = false;
  bool copy_on_write = false;
};

class PageTable {
 public:
  // The process's own address space. Lives as long as the process.
  static PageTable& Current();

  // An empty table, or one with everything of Current()'s, for supervisor use only, so that ring 0 can go on running in it: what is
  // not changed here stays as the process has it at any time. kUnimplemented without separate_tables.
  enum class Contents : std::uint8_t { kEmpty, kProcess };
  static absl::StatusOr<PageTable> Create(Contents contents);

  PageTable(PageTable&& other) noexcept;
  PageTable& operator=(PageTable&& other) noexcept;
  // Must not be active on any thread.
  ~PageTable();

  // The same mappings. kCopyOnWrite: memory that either may write is copied when one of them first does, from the frame
  // pool, 4 KiB at a time (a large page becomes small ones then); kShare: the same memory with the same rights (a page that is still
  // to be copied is copied by each for itself). What Contents::kProcess has of the process's stays the process's in both.
  // kTemplate: as kCopyOnWrite, at a price that does not depend on how much is mapped, for the tables are shared, too,
  // until one is changed; from the first time on this one stays as it is: to change it, to use it, or to run ring 3 in it
  // is kFailedPrecondition. Not of Current().
  // Of Current() (Capabilities::process_clones; kCopyOnWrite only): the pages that ring 0 had used by then, with what was
  // around them, to be read as they were. Before ring 0 writes to one, or the process unmaps, moves or gives up its memory, the
  // clone gets a copy. Of writes that are not ring 0's nobody hears: the kernel's for a system call, those of threads that are
  // out, those through other tables; write to pages that a call fills. To use it, to change it or to run ring 3 in it is
  // refused. 16 at a time; their copies are out of EnterOptions::frame_pool. Other clones of it are kUnimplemented.
  enum class Sharing : std::uint8_t { kCopyOnWrite, kShare, kTemplate };
  absl::StatusOr<PageTable> Clone(Sharing sharing) const;

  // At `where`, the memory that lies at `memory` in Current(), which must stay mapped there as long as it is here.
  // What was mapped at `where` before is replaced, but for a part of a large page (kInvalidArgument). kPermissionDenied: to be written
  // to, and the process may not write there. kResourceExhausted: no frame for a table. Not for Current(). On an error a part of the
  // range may be mapped.
  struct MapOptions {
    Rights rights = Rights::kReadWrite;
    Ring ring = Ring::kUser;
    PageSize page_size = PageSize::k4KiB;
    // Whoever first writes there gets a copy of the page, from the frame pool; `memory` is never written to.
    bool copy_on_write = false;
  };
  absl::Status Map(Range where, const void* memory, const MapOptions& options);
  absl::Status Unmap(Range range);

  // Changes the rights of what is mapped; in Current() they are a limit on top of those the process has given (mprotect),
  // until they are given back with Rights::kAll, which is to happen before the program changes them by itself. kNotFound:
  // nothing is mapped in a part of the range (in Current(): the process has nothing there), and nothing was changed. In other tables
  // they are the rights. kPermissionDenied there: to be written to, and the process could not when it was mapped.
  // kResourceExhausted: no room for so many different rights; a part of the range may have the old ones.
  absl::Status Protect(Range range, Rights rights);

  // A promise, of a collector for its heap, say: what the process has mapped in `range`, and the rights it gave, stay as they are until
  // Disclaim, which is to come before the memory is unmapped or changed. In software a limit then costs one system call and not
  // two, for the kernel need not be asked what is there; of a broken promise nobody hears, and the old rights are gone by. Other tables
  // and other backends know what is mapped, and gain nothing. kNotFound (in software): nothing is mapped in a part, and
  // nothing is claimed. kResourceExhausted.
  absl::Status Claim(Range range);
  absl::Status Disclaim(Range range);

  // Makes this table use `other`'s lower-level tables for `range`, which is of whole 1 GiB parts, in place of what it had: from then
  // on what one maps, protects, tracks or copies there is so in both. They live as long as one of the two does. What is the process's
  // there (Current(), Contents::kProcess) stays the process's: what it maps later is seen here, what is changed here is not seen there.
  // Not for Current(), nor from a template or a clone of Current() (kFailedPrecondition), nor from itself (kInvalidArgument).
  absl::Status Share(Range range, PageTable& other);

  // kNotFound where nothing is mapped.
  absl::StatusOr<Mapping> Walk(std::uintptr_t address) const;
  // Every mapped page of `range`, in order.
  absl::Status Visit(Range range, absl::FunctionRef<void(const Mapping&)> visitor) const;

  // What a clone of Current() has at `from`, whatever its rights are there. kNotFound: it has nothing in a part;
  // kResourceExhausted: there was no frame for a copy when a part was written to. Nothing is promised of `to` then. By threads
  // that are in ring 0, with other tables and backends kUnimplemented.
  absl::Status Read(void* to, std::uintptr_t from, std::size_t size) const;

  // From now on it is known what is written to (or used) in `range`, whose pages begin clean. Costs what the backend
  // costs: nothing in ring 0, a fault for the first write to each page in software. kNotFound: a part is not mapped.
  absl::Status Track(Range range, Tracking tracking);
  absl::Status Untrack(Range range, Tracking tracking);
  // Calls `visitor` for the parts of `range` (tracked, else kFailedPrecondition) that were written to (used) since the
  // last call, merged where neighbours, in order, and makes them clean. A write that happens meanwhile is told by this
  // call or by the next. In a forked child the first call may tell of more than was written to. On an error everything
  // counts as written; kFailedPrecondition also where memory was mapped anew in the range, and has to be tracked again.
  absl::Status TestAndClearDirty(Range range, absl::FunctionRef<void(Range)> visitor);
  absl::Status TestAndClearAccessed(Range range, absl::FunctionRef<void(Range)> visitor);

  // The calling thread uses this table from now on. The table must hold what the thread goes on with: code, stack,
  // data (Contents::kProcess does).
  absl::Status Activate();

  // For changes that the program made to entries by itself, with privileged instructions; the calls above flush by
  // themselves. On every thread that uses the table. This thread forgets the range; the others, which the host makes forget, all that
  // they have translated.
  void Flush(Range range);

  // Of the table, for MOV CR3. 0 where tables are not the hardware's.
  std::uint64_t root() const;

  // The library's own: what serves this table; null for one that was moved from, and for Current() before Enter.
  class Implementation;
  Implementation* implementation() const;

 private:
  explicit PageTable(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace dune

#endif  // DUNE_PAGE_TABLE_H_
