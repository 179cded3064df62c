#include "libdune/ring0_backend/user_mode.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "libdune/extended_area.h"
#include "libdune/general_registers.h"
#include "libdune/ring0_backend/entries.h"
#include "libdune/ring0_backend/flush.h"
#include "libdune/ring0_backend/raw_call.h"
#include "libdune/ring0_backend/symbols.h"
#include "libdune/x86/control.h"

namespace dune::ring0 {
namespace {

// IRETQ to another address would fault in ring 0. [intel/vol2 IRET]
constexpr std::uint64_t kUserEnd = std::uint64_t{1} << 47;

void StoreRegisters(const UserContext& context, TrapFrame& frame) {
  using namespace x86::rflags;
  constexpr std::uint64_t kTaken =
      kCarry | kParity | kAdjust | kZero | kSign | kOverflow | kDirection | kTrap | kAlignmentCheck;
  CopyGeneralRegisters(context, frame);
  frame.rflags = (context.rflags & kTaken) | kReserved1 | kInterrupt;
  frame.cs = DUNE_RING3_CODE, frame.ss = DUNE_RING3_DATA;
  frame.vector = frame.error = 0;
}

Stop StopFor(const TrapFrame& frame, const VcpuState& state) {
  const std::uint64_t address = state.cr2;
  if (frame.vector == DUNE_VECTOR_SYSCALL) return {.reason = StopReason::kSystemCall};
  if (frame.vector == DUNE_VECTOR_STOPPED) {
    return {.reason = state.timed_out != 0 ? StopReason::kTime : StopReason::kInterrupted};
  }
  return {.reason = StopReason::kFault,
          .vector = static_cast<std::uint8_t>(frame.vector),
          .error = frame.error,
          .address = frame.vector == DUNE_VECTOR_PAGE_FAULT ? address : 0};
}

// Of ring 3's own pages: a supervisor page stays forbidden, writable or not.
bool IsUserPage(std::uint64_t root, std::uint64_t address) {
  int level = 0;
  const Entry* const entry = address < kUserEnd ? FindLeaf(root, address, &level) : nullptr;
  return entry != nullptr && (entry->load() & bits::kUser) != 0;
}

constexpr absl::Duration kNoLimit = absl::Hours(24 * 365 * 100);

// Of one run, whatever ends it: a timer that went off later would interrupt a system call of the program's.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { SetTo(0); }

  absl::Status Set(absl::Duration time) {
    const auto error = static_cast<std::int64_t>(
        SetTo(static_cast<std::uint64_t>(std::max<std::int64_t>(absl::ToInt64Nanoseconds(time), 1))));
    if (error == -EBUSY) return absl::FailedPreconditionError("signal 33, which ends the time, is blocked");
    return error == 0 ? absl::OkStatus()
                      : absl::ErrnoToStatus(static_cast<int>(-error), "no timer of the kernel's");
  }

 private:
  static std::uint64_t SetTo(std::uint64_t nanoseconds) {
    return dune_hypercall(static_cast<std::uint64_t>(Hypercall::kSetTimer), nanoseconds, 0);
  }
};

std::uint64_t EnterAddress() {
  return DUNE_ALIAS_BASE + static_cast<std::uint64_t>(dune_ring0_enter_user - dune_ring0_text);
}

}  // namespace

absl::StatusOr<Stop> RunInRing3(UserContext& context, std::uint64_t root,
                                const RunOptions& options) {
  if (!IsInRing0()) return absl::FailedPreconditionError("this thread is not in ring 0");
  if (context.rip >= kUserEnd || context.fs_base >= kUserEnd || context.gs_base >= kUserEnd) {
    return absl::InvalidArgumentError("RIP or a base is no address of ring 3's");
  }
  if (options.time <= absl::ZeroDuration()) return Stop{.reason = StopReason::kTime};
  std::optional<Timer> timer;
  if (options.time < kNoLimit) {
    timer.emplace();
    if (absl::Status set = timer->Set(options.time); !set.ok()) return set;
  }
  for (;;) {
    VcpuState& state = State();
    MakeRestorable(context.extended, vm.xcr0);
    const std::uint64_t frame = state.self + DUNE_BLOCK_USER_FRAME;
    StoreRegisters(context, *reinterpret_cast<TrapFrame*>(frame));
    state.user_fs_base = context.fs_base;
    state.user_gs_base = context.gs_base;
    const TableTags::Use table = PrepareTable(root);
    dune_run_user(frame, table.word, context.extended.data(), vm.xcr0, state.self, EnterAddress());
    TableWasUsed(table);
    context.fs_base = state.user_fs_base;
    context.gs_base = state.user_gs_base;
    const TrapFrame& stopped = *reinterpret_cast<const TrapFrame*>(state.frame);
    CopyGeneralRegisters(stopped, context);
    const Stop stop = StopFor(stopped, state);
    // A signal that stopped the vCPU meanwhile comes with the next call of the kernel's.
    if (state.pending != 0 || stop.reason == StopReason::kInterrupted || stop.reason == StopReason::kTime) {
      RawCall(SYS_getpid);
    }
    bool no_frame = false;
    if (stop.vector == DUNE_VECTOR_PAGE_FAULT && (stop.error & x86::page_fault::kWrite) != 0 &&
        (stop.error & x86::page_fault::kPresent) != 0 && IsUserPage(root, stop.address) &&
        ResolveCopyOnWrite(root, stop.address, &no_frame)) {
      continue;
    }
    if (no_frame) return absl::ResourceExhaustedError("frame_pool has no frame left for a copy");
    return stop;
  }
}

namespace {

// Ring 3's memory at an address, up to where another leaf maps it.
struct Place {
  char* memory;
  std::size_t size;
};

// None: ring 3 has not these rights (bits of the entry) there.
std::optional<Place> PlaceOf(const Leaf& leaf, std::uintptr_t user, std::uint64_t rights) {
  constexpr std::uint64_t kNeeded = bits::kPresent | bits::kUser;
  if (leaf.entry == nullptr || (leaf.word & kNeeded) != kNeeded) return std::nullopt;
  if (rights != 0 && (leaf.word & rights) == 0) return std::nullopt;
  const std::size_t span = x86::EntrySpan(leaf.level), offset = user & (span - 1);
  return Place{reinterpret_cast<char*>(AddressOf(leaf.word & bits::kFrame & ~std::uint64_t{span - 1}) + offset),
               span - offset};
}

absl::Status OutOfReach(std::uintptr_t user, std::size_t size) {
  return absl::OutOfRangeError(absl::StrCat("ring 3 may not use all of 0x", absl::Hex(user), " + ", size));
}

// What can be written is not yet where it is to be copied.
constexpr std::uint64_t kRead = 0, kWrite = bits::kWritable | bits::kCopyOnWrite;

// Before anything is copied.
absl::Status CheckReach(const PageTable::Implementation& table, std::uintptr_t user, std::size_t size, std::uint64_t rights) {
  if (user >= kUserEnd || size > kUserEnd - user) return OutOfReach(user, size);
  return table.Look([&]() -> absl::Status {
    for (std::size_t done = 0; done < size;) {
      const std::optional<Place> place = PlaceOf(LeafAt(table.root(), user + done), user + done, rights);
      if (!place) return OutOfReach(user, size);
      done += place->size;
    }
    return absl::OkStatus();
  });
}

}  // namespace

absl::Status CopyFromRing3(const PageTable::Implementation& table, void* to, std::uintptr_t user, std::size_t size) {
  if (absl::Status within = CheckReach(table, user, size, kRead); !within.ok()) return within;
  for (std::size_t done = 0; done < size;) {
    char bytes[kPage];
    std::size_t part = 0;
    absl::Status copied = table.Look([&]() -> absl::Status {
      const std::optional<Place> place = PlaceOf(LeafAt(table.root(), user + done), user + done, kRead);
      if (!place) return OutOfReach(user, size);
      part = std::min({size - done, place->size, sizeof(bytes)});
      std::memcpy(bytes, place->memory, part);
      return absl::OkStatus();
    });
    if (!copied.ok()) return copied;
    // Written without the lock: the program's handler of a page fault may be in the way.
    std::memcpy(static_cast<char*>(to) + done, bytes, part);
    done += part;
  }
  return absl::OkStatus();
}

absl::Status CopyToRing3(OwnTable& table, std::uintptr_t user, const void* from, std::size_t size) {
  if (absl::Status within = CheckReach(table, user, size, kWrite); !within.ok()) return within;
  for (std::size_t done = 0; done < size;) {
    // Read before the lock is held, for the same reason.
    char bytes[kPage];
    const std::size_t wanted = std::min(size - done, sizeof(bytes));
    std::memcpy(bytes, static_cast<const char*>(from) + done, wanted);
    absl::Status copied = table.Change([&]() -> absl::Status {
      bool no_frame = false;
      const Leaf leaf = LeafToWrite(table.root(), user + done, &no_frame);
      if (no_frame) return absl::ResourceExhaustedError("frame_pool has no frame left for a copy");
      const std::optional<Place> place = PlaceOf(leaf, user + done, bits::kWritable);
      if (!place) return OutOfReach(user, size);
      const std::size_t part = std::min(wanted, place->size);
      std::memcpy(place->memory, bytes, part);
      done += part;
      return absl::OkStatus();
    });
    if (!copied.ok()) return copied;
  }
  return absl::OkStatus();
}

}  // namespace dune::ring0
