#include "jit-fallback/dispatch/lookup_table.h"

#include <nmmintrin.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "jit-fallback/dispatch/context_offsets.h"

extern "C" const char dunebox_jit_windowed_exit_lookup[];

namespace dunebox::jit {
namespace {

constexpr std::size_t kFirstBytes = std::size_t{JIT_TABLE_ENTRIES} * sizeof(std::uint64_t);
// The tables lie in the file as in a thread's memory.
constexpr std::size_t kFirstTable = JIT_TABLE, kSecondTable = JIT_SECOND_TABLE;
constexpr std::size_t kBytes = kSecondTable + std::size_t{JIT_SECOND_TABLE_ENTRIES} * sizeof(SecondEntry);

// A memory file takes all of it or has no memory.
bool WriteAt(int fd, const void* data, std::size_t size, std::size_t place) {
  return pwrite(fd, data, size, static_cast<off_t>(place)) == static_cast<ssize_t>(size);
}

absl::StatusOr<hostcalls::SealedFile> MakeFile(std::span<const KnownTarget> known) {
  const auto nothing = reinterpret_cast<std::uint64_t>(dunebox_jit_windowed_exit_lookup);
  std::vector<std::uint64_t> first(JIT_TABLE_ENTRIES, nothing);
  // Of the one address that an entry without contents would take for its own.
  std::map<std::uint64_t, SecondEntry> second = {
      {SecondIndex(~std::uint64_t{0}), {.negative = 0, .host = nothing}}};
  for (const KnownTarget& target : known) {
    std::uint64_t& entry = first[target.pc % JIT_TABLE_ENTRIES];
    if (entry == nothing) {
      entry = target.host;
    } else {
      second.insert({SecondIndex(target.pc), {.negative = ~target.pc, .host = target.host}});
    }
  }
  return hostcalls::SealedFile::Create("dunebox-table", kBytes, [&](int fd) {
    bool is_written = WriteAt(fd, first.data(), kFirstBytes, kFirstTable);
    for (const auto& [index, entry] : second) {
      is_written = is_written &&
                   WriteAt(fd, &entry, sizeof(entry), kSecondTable + index * sizeof(entry));
    }
    return is_written ? absl::OkStatus()
                      : absl::ResourceExhaustedError("no memory for a lookup table");
  });
}

}  // namespace

[[gnu::target("sse4.2")]] std::uint64_t SecondIndex(std::uint64_t pc) {
  return _mm_crc32_u64(0, pc) % JIT_SECOND_TABLE_ENTRIES;
}

absl::StatusOr<std::shared_ptr<const LookupTable>> LookupTable::Create(
    std::span<const KnownTarget> known, std::uint32_t generation) {
  absl::StatusOr<hostcalls::SealedFile> file = MakeFile(known);
  if (!file.ok()) return file.status();
  return std::shared_ptr<const LookupTable>(new LookupTable(*std::move(file), generation));
}

absl::StatusOr<std::shared_ptr<const LookupTable>> LookupTable::Empty() {
  static std::mutex& mutex = *new std::mutex;
  static std::weak_ptr<const LookupTable>& latest = *new std::weak_ptr<const LookupTable>;
  const std::lock_guard lock(mutex);
  if (std::shared_ptr<const LookupTable> table = latest.lock()) return table;
  absl::StatusOr<std::shared_ptr<const LookupTable>> table = Create({}, 0);
  if (table.ok()) latest = *table;
  return table;
}

const std::size_t LookupTable::kThreadSize = kBytes;

absl::StatusOr<std::byte*> LookupTable::Map(std::byte* place, std::size_t first) const {
  const std::optional<int> fd = file_.Get();
  if (!fd) return absl::FailedPreconditionError("the application has closed a sandbox's table");
  void* const mapped = mmap(place, kBytes - first, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_NORESERVE | (place != nullptr ? MAP_FIXED : 0), *fd,
                            static_cast<off_t>(first));
  if (mapped != MAP_FAILED) return static_cast<std::byte*>(mapped);
  return absl::ResourceExhaustedError(absl::ErrnoToStatus(errno, "no lookup table").message());
}

absl::StatusOr<std::byte*> LookupTable::MapWithThread() const { return Map(nullptr, 0); }

absl::Status LookupTable::MapAt(std::byte* place) const { return Map(place, kFirstTable).status(); }

}  // namespace dunebox::jit
