// What Sandbox does for its own templates, for those who know types at run time only.
//
//   absl::StatusOr<std::uint64_t> address = internal::Untyped::Export(sandbox,
//   std::move(callback));
#ifndef DUNEBOX_SANDBOX_C_API_UNTYPED_H_
#define DUNEBOX_SANDBOX_C_API_UNTYPED_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "dunebox/sandbox.h"

namespace dunebox::internal {

class Untyped {
 public:
  static absl::StatusOr<std::uint64_t> Export(Sandbox& sandbox, Callback callback) {
    return sandbox.AddCallback(std::move(callback));
  }
  static absl::Status CopyIn(const Sandbox& sandbox, std::uint64_t from, std::span<std::byte> to) {
    return sandbox.CopyBytesIn(from, to);
  }
  static absl::Status CopyOut(Sandbox& sandbox, std::uint64_t to, std::span<const std::byte> from) {
    return sandbox.CopyBytesOut(to, from);
  }
};

}  // namespace dunebox::internal

#endif  // DUNEBOX_SANDBOX_C_API_UNTYPED_H_
