// The seam between the public calls and who serves them. Machine is what a backend is to <dune/dune.h>, trap.h and
// user.h, PageTable::Implementation what a table is to page_table.h. The common part (dune.cc, page_table.cc, trap.cc,
// user.cc) has checked what can be checked without a backend before it calls: ranges are of whole pages and do not
// wrap, vectors are settable ones, large pages lie right. What a backend does not override is refused with
// kUnimplemented, and its Capabilities have to say the same.
//
//   class SoftwareMachine final : public Machine { Backend backend() const override { return Backend::kSoftware; } ...
//
// One machine a process, made by the first Enter and never destroyed: signals and other threads may be in it until the
// process ends. Everything here is called by several threads at once.
#ifndef DUNEBOX_LIBDUNE_BACKEND_H_
#define DUNEBOX_LIBDUNE_BACKEND_H_

#include <memory>

#include "dune/dune.h"
#include "dune/page_table.h"
#include "dune/trap.h"
#include "dune/user.h"
#include "libdune/loader/static_program.h"

namespace dune {

class PageTable::Implementation {
 public:
  Implementation() = default;
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;
  virtual ~Implementation() = default;

  virtual absl::StatusOr<std::unique_ptr<Implementation>> Clone(Sharing sharing) const;
  virtual absl::Status Map(Range where, std::uintptr_t memory, const MapOptions& options);
  // Zeroed memory that is the table's own: for programs in ring 3.
  virtual absl::Status MapFresh(Range where, Rights rights);
  // Where the program itself has the byte, if ring 3 may use it so; a page that is copied on write is copied before it
  // is given for kWrite. kOutOfRange: it may not.
  virtual absl::StatusOr<std::byte*> FindUserByte(std::uintptr_t address, Access access);
  // While nobody changes the table by calls of its own.
  virtual absl::Status Look(absl::FunctionRef<absl::Status()> look) const { return look(); }
  virtual absl::Status Unmap(Range range);
  virtual absl::Status Protect(Range range, Rights rights);
  // A table that knows what it maps needs nobody's promise.
  virtual absl::Status Claim(Range /*range*/) { return absl::OkStatus(); }
  virtual void Disclaim(Range /*range*/) {}
  virtual absl::Status Share(Range range, Implementation& other);
  virtual absl::StatusOr<Mapping> Walk(std::uintptr_t address) const;
  virtual absl::Status Visit(Range range, absl::FunctionRef<void(const Mapping&)> visitor) const;
  virtual absl::Status Track(Range range, Tracking tracking);
  virtual absl::Status Untrack(Range range, Tracking tracking);
  virtual absl::Status TestAndClear(Range range, Tracking tracking,
                                    absl::FunctionRef<void(Range)> visitor);
  virtual absl::Status Read(void* to, std::uintptr_t from, std::size_t size) const;
  virtual absl::Status Activate();
  // Whether ring 3 may run in it.
  virtual absl::Status CheckRunnable() const { return absl::OkStatus(); }
  // A backend whose tables the program cannot change behind its back has nothing to flush.
  virtual void Flush(Range /*range*/) {}
  virtual std::uint64_t root() const { return 0; }
};

class Machine {
 public:
  Machine() = default;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  virtual ~Machine() = default;

  virtual Backend backend() const = 0;
  virtual const Capabilities& capabilities() const = 0;

  // The calling thread, which may be in already: then nothing more happens.
  virtual absl::Status EnterThread() = 0;
  // The calling thread, which is in.
  virtual absl::Status LeaveThread() = 0;
  virtual bool IsThreadIn() const = 0;

  virtual PageTable::Implementation& current_table() = 0;
  virtual absl::StatusOr<std::unique_ptr<PageTable::Implementation>> CreateTable(
      PageTable::Contents contents);

  virtual absl::Status SetTrapHandler(unsigned vector, TrapHandler handler, HandlerKind kind);
  virtual absl::Status SetPageFaultHandler(PageFaultHandler handler, HandlerKind kind);

  virtual absl::StatusOr<Stop> RunUser(UserContext& context, PageTable::Implementation& table,
                                       const RunOptions& options);
  // Into `table`, which is empty. Sets `context` and `heap`.
  virtual absl::Status LoadProgram(const std::string& path, std::span<const std::string> arguments,
                                   std::span<const std::string> environment,
                                   PageTable::Implementation& table, UserContext& context,
                                   std::uintptr_t& heap);
  virtual absl::Status CopyFromUser(PageTable::Implementation& table, void* to, std::uintptr_t from,
                                    std::size_t size);
  virtual absl::Status CopyToUser(PageTable::Implementation& table, std::uintptr_t to,
                                  const void* from, std::size_t size);
};

// Ring 3 for a backend that has none: tables beside Current(), and what runs in them. A library above this one gives it
// (sandbox/ring3), for what it takes to run code that nobody trusts is more than a libdune brings along. As Machine, it
// is never destroyed, and called by several threads.
class UserMode {
 public:
  UserMode() = default;
  UserMode(const UserMode&) = delete;
  UserMode& operator=(const UserMode&) = delete;
  virtual ~UserMode() = default;

  virtual const UserPlaces& places() const = 0;
  // Empty. The other functions are called for tables from here only.
  virtual absl::StatusOr<std::unique_ptr<PageTable::Implementation>> CreateTable() = 0;
  virtual absl::StatusOr<Stop> RunUser(UserContext& context, PageTable::Implementation& table,
                                       const RunOptions& options) = 0;
  virtual absl::Status CopyFromUser(PageTable::Implementation& table, void* to, std::uintptr_t from,
                                    std::size_t size) = 0;
  virtual absl::Status CopyToUser(PageTable::Implementation& table, std::uintptr_t to,
                                  const void* from, std::size_t size) = 0;
};
// Once, before the first Enter; kFailedPrecondition after it, or with another one.
absl::Status GiveUserMode(UserMode& user_mode);
// Null: nobody has given one.
UserMode* GivenUserMode();

// The process's machine; null before the first Enter.
Machine* CurrentMachine();

// kFailedPrecondition: Enter was not called.
absl::Status NotEntered();

// One row a backend, best first (backends.cc). `make` says kUnavailable, and why, where the host has not what it needs.
struct BackendRow {
  Wanted wanted;
  absl::StatusOr<std::unique_ptr<Machine>> (*make)(const EnterOptions& options);
};
std::span<const BackendRow> Backends();

}  // namespace dune

#endif  // DUNEBOX_LIBDUNE_BACKEND_H_
