// The lookup table of a thread in a window before it has looked anything up: a file of addresses of the second
// lookup, which threads map copy-on-write in place of filling half a megabyte each.
//
//   absl::StatusOr<std::shared_ptr<const EmptyTable>> table = EmptyTable::Create();
//   ThreadContext::CreateWith(**table, layout, window_base);
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_EMPTY_TABLE_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_EMPTY_TABLE_H_

#include <cstddef>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/memory/sealed_file.h"

namespace dunebox::jit {

class EmptyTable {
 public:
  static absl::StatusOr<std::shared_ptr<const EmptyTable>> Create();
  // Over what is mapped there.
  absl::Status MapAt(std::byte* place) const;

 private:
  explicit EmptyTable(hostcalls::SealedFile file) : file_(std::move(file)) {}

  const hostcalls::SealedFile file_;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_EMPTY_TABLE_H_
