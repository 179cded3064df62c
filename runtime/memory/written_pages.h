// Which pages of private mappings have contents of their own, because somebody has written to them: those of a
// file's that were copied for it, and those of anonymous memory. Pages of shared mappings are never among
// them.
//
//   absl::Status looked = ForEachWritten(window, size, [&](std::byte* start, std::size_t bytes) { ... });
#ifndef DUNEBOX_RUNTIME_MEMORY_WRITTEN_PAGES_H_
#define DUNEBOX_RUNTIME_MEMORY_WRITTEN_PAGES_H_

#include <cstddef>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace dunebox::memory {

// Gets runs of whole pages in ascending order; it may change what they contain.
using VisitPages = absl::FunctionRef<void(std::span<std::byte> pages)>;

// Of the calling process, whole pages. What is visited first may be there no more, or more.
absl::Status ForEachWritten(std::span<std::byte> range, VisitPages visit);
// In several ranges, for less than by as many calls.
absl::Status ForEachWrittenIn(std::span<const std::span<std::byte>> ranges, VisitPages visit);

// Opens what the others look into, for a process that is about to lose the right to. False: it cannot.
bool PrepareForEachWritten();

// The two ways there are; the second is for kernels before 6.7. kUnimplemented: it is not to be had.
absl::Status ForEachWrittenByScan(std::span<std::byte> range, VisitPages visit);
absl::Status ForEachWrittenByEntries(std::span<std::byte> range, VisitPages visit);

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_WRITTEN_PAGES_H_
