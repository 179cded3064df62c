#include "libdune/ring0_backend/process_clone.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "libdune/ring0_backend/clones.h"
#include "libdune/ring0_backend/flush.h"
#include "libdune/ring0_backend/run_loop.h"
#include "libdune/ring0_backend/symbols.h"

namespace dune::ring0 {

absl::StatusOr<std::unique_ptr<ProcessClone>> ProcessClone::Create() {
  if (!IsInRing0()) return NotInRing0();
  const std::uint64_t frame = TakeFrame(FrameFor::kOthers);
  if (frame == 0) return NoFrame();
  std::unique_ptr<ProcessClone> clone(new ProcessClone(PhysicalOf(frame)));
  const auto error = static_cast<std::int64_t>(
      dune_hypercall(static_cast<std::uint64_t>(Hypercall::kAddClone), clone->root(), 0));
  // A write by what was translated before comes before the clone.
  FlushRange({0, kLowerEnd});
  if (error == -EAGAIN) {
    return absl::ResourceExhaustedError(absl::StrCat("there are ", Vm::kMostClones, " clones of Current() already"));
  }
  if (error != 0) return NoFrame();
  return clone;
}

ProcessClone::~ProcessClone() {
  if (IsInRing0()) {
    dune_hypercall(static_cast<std::uint64_t>(Hypercall::kRemoveClone), root(), 0);
  } else {
    const LoopLock::Holder holder(vm.lock);
    RemoveClone(root());
  }
}

absl::Status ProcessClone::CheckRunnable() const {
  return absl::FailedPreconditionError("a clone of Current() is there to be read");
}

absl::StatusOr<Mapping> ProcessClone::Walk(std::uintptr_t address) const {
  const Entry* const entry = address < kLowerEnd ? FindEntry(root(), address, 1) : nullptr;
  const std::uint64_t word = entry == nullptr ? 0 : entry->load();
  if ((word & bits::kKnown) == 0) return NothingAt(address);
  return MappingOf(address & ~(kPage - 1), word, 1);
}

absl::Status ProcessClone::Visit(Range range, absl::FunctionRef<void(const Mapping&)> visitor) const {
  ForEachEntry(root(), range.begin, std::min<std::uintptr_t>(range.end(), kLowerEnd),
               [&](std::uint64_t page, Entry& entry, int level) {
                 const std::uint64_t word = entry.load();
                 if ((word & bits::kKnown) != 0) visitor(MappingOf(page, word, level));
               });
  return absl::OkStatus();
}

absl::Status ProcessClone::Read(void* to, std::uintptr_t from, std::size_t size) const {
  if (!IsInRing0()) return NotInRing0();
  if (from >= kLowerEnd || size > kLowerEnd - from) return NothingAt(kLowerEnd);
  auto* const bytes = static_cast<std::byte*>(to);
  for (std::size_t done = 0; done < size;) {
    const std::size_t part = std::min<std::size_t>(size - done, kPage - ((from + done) & (kPage - 1)));
    if (absl::Status read = ReadPart(bytes + done, from + done, part); !read.ok()) return read;
    done += part;
  }
  return absl::OkStatus();
}

absl::Status ProcessClone::ReadPart(void* to, std::uintptr_t from, std::size_t size) const {
  // Written to by ring 0 first: the kernel's copy below is one that no other clone would hear of.
  auto* const bytes = static_cast<volatile std::byte*>(to);
  bytes[0] = std::byte{};
  bytes[size - 1] = std::byte{};
  for (;;) {
    const Entry* const entry = FindEntry(root(), from, 1);
    const std::uint64_t word = entry == nullptr ? 0 : entry->load(std::memory_order_acquire);
    if ((word & bits::kKnown) == 0) return NothingAt(from);
    if ((word & bits::kPresent) == 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("0x", absl::Hex(from), " was written to when EnterOptions::frame_pool had no frame for a copy"));
    }
    if ((word & bits::kOwned) != 0) {
      std::memcpy(to, reinterpret_cast<const std::byte*>(AddressOf(word & bits::kFrame)) + (from & (kPage - 1)), size);
      return absl::OkStatus();
    }
    // The process's own, whatever limit it has set itself.
    if (!ReadProgram(from, to, size)) return NothingAt(from);
    // The copy is made before the page changes: there was none yet.
    if (entry->load(std::memory_order_acquire) == word) return absl::OkStatus();
  }
}

}  // namespace dune::ring0
