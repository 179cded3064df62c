#include "sandbox/ring3/window_table.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/check.h"
#include "libdune/software/process_maps.h"
#include "sandbox/plugin/host_signals.h"

namespace dunebox::ring3 {
namespace {

// As PROT_* (libdune/software/process_maps.cc asserts it).
int ProtOf(dune::Rights rights) { return static_cast<int>(rights); }

constexpr std::uint64_t kStackRoom = std::uint64_t{1} << 20;  // of a layout, which places nothing here
constexpr std::size_t kCodeCache = std::size_t{32} << 20;

absl::Status NothingAt(std::uintptr_t address) {
  return absl::NotFoundError(absl::StrCat("nothing is mapped at 0x", absl::Hex(address)));
}

absl::Status FromResult(const hostcalls::SyscallResult& result, const char* what) {
  return result.ok() ? absl::OkStatus() : absl::ErrnoToStatus(result.error(), what);
}

// Of one mapping, all of it: what lies behind its end is other memory, or none.
bool IsOneMapping(dune::Range range) {
  dune::software::ProcessMaps maps;
  if (!maps.Reopen().ok()) return false;
  const std::optional<dune::software::Area> area = maps.FindAtOrAbove(range.begin);
  return area && area->range.begin <= range.begin && range.end() <= area->range.end();
}

// The same memory at some other address, with these rights. Host mappings are never executable.
absl::StatusOr<void*> Alias(std::uintptr_t memory, std::size_t size, dune::Rights rights) {
  // [linux] mremap: an old size of 0 maps shared memory a second time.
  void* const alias = mremap(reinterpret_cast<void*>(memory), 0, size, MREMAP_MAYMOVE);
  if (alias == MAP_FAILED) {
    if (errno == EINVAL) {
      return absl::InvalidArgumentError("only shared memory (MAP_SHARED) can be ring 3's as well");
    }
    return absl::ErrnoToStatus(errno, "the memory cannot be mapped a second time");
  }
  if (mprotect(alias, size, memory::Protection::FromProt(ProtOf(rights)).ToHostProt()) == 0) return alias;
  const absl::Status refused = absl::ErrnoToStatus(errno, "the memory may not be had with these rights");
  munmap(alias, size);
  return refused;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WindowTable>> WindowTable::Create() {
  std::uint64_t random = 0;
  if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
    return absl::UnavailableError("getrandom failed");
  }
  absl::StatusOr<plugin::ReservedWindow> window = plugin::ReservedWindow::Create();
  if (!window.ok()) return window.status();
  std::unique_ptr<WindowTable> table(new WindowTable(*std::move(window), random));
  absl::StatusOr<std::unique_ptr<runtime::JitEngine>> engine = runtime::JitEngine::Create(
      {.cache_size = kCodeCache, .isolation = jit::Isolation::kSeg}, table->space_);
  if (!engine.ok()) return engine.status();
  table->engine_ = *std::move(engine);
  return table;
}

WindowTable::WindowTable(plugin::ReservedWindow window, std::uint64_t random)
    : window_(std::move(window)),
      memory_(window_.window()),
      space_(memory_, memory::Layout::FromRandom(random, kStackRoom, memory::Images::kSmall)) {}

absl::Status WindowTable::CheckInside(Range range) const {
  const hostcalls::Window& window = memory_.window();
  if (range.begin >= window.lowest && range.end() <= window.limit) return absl::OkStatus();
  return absl::InvalidArgumentError("in the software backend ring 3 has addresses from 64 KiB to 4 GiB");
}

absl::Status WindowTable::Map(Range where, std::uintptr_t memory, const MapOptions& options) {
  if (absl::Status inside = CheckInside(where); !inside.ok()) return inside;
  if (options.page_size != dune::PageSize::k4KiB || options.ring != dune::Ring::kUser || options.copy_on_write) {
    return absl::UnimplementedError("in the software backend these tables are of 4 KiB pages of ring 3's, shared");
  }
  if (where.size == 0) return absl::OkStatus();
  if (!IsOneMapping({memory, where.size})) return NothingAt(memory);
  const absl::StatusOr<void*> alias = Alias(memory, where.size, options.rights);
  if (!alias.ok()) return alias.status();
  // First the engine and the map are told, by memory that has nothing in it; then the alias takes its place.
  absl::Status placed = FromResult(
      space_.Map({.address = where.begin,
                  .length = where.size,
                  .prot = ProtOf(options.rights),
                  .flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED}),
      "the memory cannot be mapped in ring 3");
  void* const host = memory_.HostAddress(where.begin, where.size);
  if (placed.ok() && mremap(*alias, where.size, where.size, MREMAP_MAYMOVE | MREMAP_FIXED, host) == host) {
    return absl::OkStatus();
  }
  const int error = errno;
  munmap(*alias, where.size);
  if (!placed.ok()) return placed;
  // The kernel may have taken away what was there before it failed: the window must have no holes, which anybody's
  // memory might fill.
  DUNEBOX_CHECK(space_.Unmap(where.begin, where.size).ok(), "a window with a hole");
  return absl::ErrnoToStatus(error, "the memory cannot be mapped in ring 3");
}

absl::Status WindowTable::MapFresh(Range where, Rights rights) {
  if (absl::Status inside = CheckInside(where); !inside.ok()) return inside;
  return FromResult(space_.Map({.address = where.begin,
                                .length = where.size,
                                .prot = ProtOf(rights),
                                .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE}),
                    "no memory for ring 3");
}

absl::Status WindowTable::Unmap(Range range) {
  if (absl::Status inside = CheckInside(range); !inside.ok()) return inside;
  if (range.size == 0) return absl::OkStatus();
  return FromResult(space_.Unmap(range.begin, range.size), "the memory cannot be taken from ring 3");
}

absl::Status WindowTable::Protect(Range range, Rights rights) {
  if (absl::Status inside = CheckInside(range); !inside.ok()) return inside;
  if (range.size == 0) return absl::OkStatus();
  const GuestRange guest{GuestVirt{range.begin}, GuestVirt{range.end()}};
  if (!space_.WithMap([&](const memory::VmaMap& map) { return map.Covers(guest); })) {
    return NothingAt(range.begin);
  }
  return FromResult(space_.Protect(range.begin, range.size, ProtOf(rights)), "mprotect");
}

dune::Mapping WindowTable::Describe(std::uintptr_t page, memory::Protection protection) const {
  return {.page = {page, dune::kPageSize},
          .memory = memory_.window().base + page,
          .rights = static_cast<Rights>((protection.any() ? 1 : 0) | (protection.write ? 2 : 0) |
                                        (protection.execute ? 4 : 0)),
          .ring = dune::Ring::kUser};
}

absl::StatusOr<dune::Mapping> WindowTable::Walk(std::uintptr_t address) const {
  return space_.WithVma(GuestVirt{address}, [&](const memory::Vma* vma) -> absl::StatusOr<dune::Mapping> {
    if (vma == nullptr) return NothingAt(address);
    return Describe(PageDown(address), vma->protection);
  });
}

absl::Status WindowTable::Visit(Range range,
                                absl::FunctionRef<void(const dune::Mapping&)> visitor) const {
  std::vector<std::pair<GuestRange, memory::Protection>> found;
  space_.WithMap([&](const memory::VmaMap& map) {
    map.ForEachIn({GuestVirt{range.begin}, GuestVirt{range.end()}}, [&](const memory::Vma& vma) {
      found.emplace_back(vma.range, vma.protection);
      return true;
    });
  });
  // Without the lock: a visitor may look at the table again.
  for (const auto& [part, protection] : found) {
    const std::uintptr_t end = std::min<std::uintptr_t>(part.end.value, range.end());
    for (std::uintptr_t page = std::max<std::uintptr_t>(part.start.value, range.begin); page < end;
         page += dune::kPageSize) {
      visitor(Describe(page, protection));
    }
  }
  return absl::OkStatus();
}

bool WindowTable::Allows(std::uintptr_t address, std::size_t size, Rights wanted) const {
  if (!memory_.Contains(address, size)) return false;
  if (size == 0) return true;
  const GuestRange range{GuestVirt{address}, GuestVirt{address + size}};
  return space_.WithMap([&](const memory::VmaMap& map) {
    bool is_allowed = map.Covers(range);
    map.ForEachIn(range, [&](const memory::Vma& vma) {
      is_allowed &= wanted == Rights::kReadWrite ? vma.protection.write : vma.protection.any();
      return is_allowed;
    });
    return is_allowed;
  });
}

namespace {

absl::Status OutOfReach(std::uintptr_t address, std::size_t size) {
  return absl::OutOfRangeError(
      absl::StrCat("ring 3 may not use all of 0x", absl::Hex(address), " + ", size));
}

}  // namespace

absl::Status WindowTable::CopyFrom(void* to, std::uintptr_t from, std::size_t size) const {
  const std::span<std::byte> bytes(static_cast<std::byte*>(to), size);
  return Allows(from, size, Rights::kRead) && memory_.Read(from, bytes) ? absl::OkStatus()
                                                                       : OutOfReach(from, size);
}

absl::Status WindowTable::CopyTo(std::uintptr_t to, const void* from, std::size_t size) const {
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(from), size);
  return Allows(to, size, Rights::kReadWrite) && memory_.Write(to, bytes) ? absl::OkStatus()
                                                                         : OutOfReach(to, size);
}

absl::StatusOr<std::unique_ptr<Runner>> WindowTable::TakeRunner() {
  {
    const std::lock_guard lock(mutex_);
    if (!runners_.empty()) {
      std::unique_ptr<Runner> runner = std::move(runners_.back());
      runners_.pop_back();
      return runner;
    }
  }
  absl::StatusOr<std::unique_ptr<runtime::EngineThread>> thread = engine_->CreateThread();
  if (!thread.ok()) return thread.status();
  return std::make_unique<Runner>(*std::move(thread));
}

absl::StatusOr<dune::Stop> WindowTable::Run(dune::UserContext& context,
                                            const dune::RunOptions& options) {
  const hostcalls::Window& window = memory_.window();
  if (context.rip >= window.limit || !window.AllowsSegmentBase(context.fs_base) ||
      !window.AllowsSegmentBase(context.gs_base)) {
    return absl::InvalidArgumentError("RIP or a base is no address of ring 3's");
  }
  plugin::PrepareThread();
  absl::StatusOr<std::unique_ptr<Runner>> runner = TakeRunner();
  if (!runner.ok()) return runner.status();
  absl::StatusOr<dune::Stop> stop = (*runner)->Run(context, options.time);
  const std::lock_guard lock(mutex_);
  runners_.push_back(*std::move(runner));
  return stop;
}

}  // namespace dunebox::ring3
