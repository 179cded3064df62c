#include "sandbox/plugin/guest.h"

namespace dunebox::plugin {
namespace {

absl::Status NoSnapshots() {
  return absl::UnimplementedError("a plugin behind two walls has no snapshots");
}

}  // namespace

absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> Guest::Snapshot() { return NoSnapshots(); }
absl::Status Guest::ReturnTo(const InstanceSnapshot&) { return NoSnapshots(); }
absl::StatusOr<internal::Block> Guest::Claim(std::uint64_t, std::size_t) { return NoSnapshots(); }

}  // namespace dunebox::plugin
