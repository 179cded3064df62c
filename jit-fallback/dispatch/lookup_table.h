// The lookup tables of a thread in a window as it begins: a file with the targets of indirect jumps that are known, if
// any, which threads map copy-on-write in place of filling one and a half megabytes each. What is in it is right as
// long as the translator that knows them has not been emptied: whoever maps it asks for the generation.
//
//   absl::StatusOr<std::shared_ptr<const LookupTable>> table = LookupTable::Create(known, generation);
//   ThreadContext::CreateWith(*table, layout, window_base);
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_LOOKUP_TABLE_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_LOOKUP_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/memory/sealed_file.h"

namespace dunebox::jit {

struct KnownTarget {
  std::uint64_t pc, host;
};

// Of the second table.
struct SecondEntry {
  std::uint64_t negative;  // minus the guest address, less one
  std::uint64_t host;
};
std::uint64_t SecondIndex(std::uint64_t pc);

class LookupTable {
 public:
  // A target that shares its entries of both tables with others may be left out.
  static absl::StatusOr<std::shared_ptr<const LookupTable>> Create(
      std::span<const KnownTarget> known, std::uint32_t generation);
  // The one without targets: all who ask while somebody has it get the same.
  static absl::StatusOr<std::shared_ptr<const LookupTable>> Empty();

  // A thread's memory: JIT_TABLE bytes of zeros, and both tables behind them. In one mapping, for many threads.
  absl::StatusOr<std::byte*> MapWithThread() const;
  static const std::size_t kThreadSize;
  // Both tables, over what is mapped there.
  absl::Status MapAt(std::byte* place) const;
  // Of the translator's cache; means nothing of the empty one.
  std::uint32_t generation() const { return generation_; }

 private:
  LookupTable(hostcalls::SealedFile file, std::uint32_t generation)
      : file_(std::move(file)), generation_(generation) {}
  // From `first` in the file on: at `place`, or anywhere.
  absl::StatusOr<std::byte*> Map(std::byte* place, std::size_t first) const;

  const hostcalls::SealedFile file_;
  const std::uint32_t generation_;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_LOOKUP_TABLE_H_
