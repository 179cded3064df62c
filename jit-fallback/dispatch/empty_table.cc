#include "jit-fallback/dispatch/empty_table.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <vector>

#include "jit-fallback/dispatch/context_offsets.h"

extern "C" const char dunebox_jit_windowed_lookup[];

namespace dunebox::jit {
namespace {

constexpr std::size_t kBytes = std::size_t{JIT_TABLE_ENTRIES} * sizeof(std::uint64_t);

}  // namespace

absl::StatusOr<std::shared_ptr<const EmptyTable>> EmptyTable::Create() {
  const std::vector<std::uint64_t> entries(
      JIT_TABLE_ENTRIES, reinterpret_cast<std::uint64_t>(dunebox_jit_windowed_lookup));
  absl::StatusOr<hostcalls::SealedFile> file =
      hostcalls::SealedFile::Create("dunebox-table", kBytes, [&](int fd) {
        // A memory file takes all of it or has no memory.
        return pwrite(fd, entries.data(), kBytes, 0) == static_cast<ssize_t>(kBytes)
                   ? absl::OkStatus()
                   : absl::ResourceExhaustedError("no memory for a lookup table");
      });
  if (!file.ok()) return file.status();
  return std::shared_ptr<const EmptyTable>(new EmptyTable(*std::move(file)));
}

absl::Status EmptyTable::MapAt(std::byte* place) const {
  const std::optional<int> fd = file_.Get();
  if (!fd) return absl::FailedPreconditionError("the application has closed a sandbox's table");
  if (mmap(place, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, *fd, 0) ==
      MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::ErrnoToStatus(errno, "no lookup table").message());
  }
  return absl::OkStatus();
}

}  // namespace dunebox::jit
