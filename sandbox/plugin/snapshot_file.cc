#include "sandbox/plugin/snapshot_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/file_descriptor.h"
#include "sandbox/plugin/saved_guest.h"
#include "sandbox/plugin/snapshot_format.h"

namespace dunebox::plugin {
namespace {

constexpr std::array<char, 8> kMagic = {'D', 'U', 'N', 'E', 'B', 'O', 'X', 'S'};
constexpr std::uint32_t kVersion = 3;

struct Header {
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  SnapshotEngine engine = SnapshotEngine::kJit;
  std::uint64_t guest_size = 0, contents_size = 0;  // of the two parts behind this
  std::uint64_t guest_sum = 0, contents_sum = 0;    // XXH3, 64 bits
};
static_assert(sizeof(Header) == 48);

constexpr std::uint64_t kMostGuestSize = std::uint64_t{64} << 20;
constexpr std::size_t kAtOnce = std::size_t{256} << 10;

absl::Status FileError(const std::string& path) { return absl::ErrnoToStatus(errno, path); }
absl::Status Damaged(const std::string& path) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": not a saved sandbox, or damaged"));
}

bool WriteAll(int fd, const void* from, std::size_t size) {
  const char* at = static_cast<const char*>(from);
  while (size > 0) {
    const ssize_t written = write(fd, at, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    at += written;
    size -= static_cast<std::size_t>(written);
  }
  return true;
}

bool ReadAll(int fd, void* to, std::size_t size) {
  char* at = static_cast<char*>(to);
  while (size > 0) {
    const ssize_t got = read(fd, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

// Of something that is given piece by piece.
class Checksum {
 public:
  Checksum() { XXH3_64bits_reset(&state_); }
  void Add(const void* bytes, std::size_t size) { XXH3_64bits_update(&state_, bytes, size); }
  std::uint64_t Sum() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_;
};

// The host's memory is not the guest's to read, so these never fault.
std::span<const std::byte> BytesOf(const memory::MemoryImage& image, const GuestRange& range) {
  return {image.At(range.start), range.size()};
}

}  // namespace

absl::Status SaveSnapshot(const InstanceSnapshot& snapshot, const std::string& path) {
  const std::string guest = EncodeGuest(Describe(snapshot));
  Header header{.engine = snapshot.engine, .guest_size = guest.size()};
  header.guest_sum = XXH3_64bits(guest.data(), guest.size());
  Checksum sum;
  snapshot.memory->contents().ForEach([&](const GuestRange& range) {
    const std::span<const std::byte> bytes = BytesOf(*snapshot.memory, range);
    sum.Add(bytes.data(), bytes.size());
    header.contents_size += bytes.size();
  });
  header.contents_sum = sum.Sum();

  std::string unfinished = absl::StrCat(path, ".XXXXXX");
  const runtime::FileDescriptor file(mkostemp(unfinished.data(), O_CLOEXEC));
  if (!file.valid()) return FileError(path);
  bool is_written = WriteAll(file.get(), &header, sizeof(header)) &&
                    WriteAll(file.get(), guest.data(), guest.size());
  snapshot.memory->contents().ForEach([&](const GuestRange& range) {
    const std::span<const std::byte> bytes = BytesOf(*snapshot.memory, range);
    is_written = is_written && WriteAll(file.get(), bytes.data(), bytes.size());
  });
  if (is_written && rename(unfinished.c_str(), path.c_str()) == 0) return absl::OkStatus();
  absl::Status failed = FileError(path);
  unlink(unfinished.c_str());
  return failed;
}

absl::StatusOr<std::shared_ptr<InstanceSnapshot>> OpenSnapshot(const std::string& path,
                                                               SnapshotEngine engine,
                                                               const Files* files) {
  const runtime::FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  struct stat status{};
  if (!file.valid() || fstat(file.get(), &status) != 0) return FileError(path);
  const auto size = static_cast<std::uint64_t>(status.st_size);
  Header header;
  if (!S_ISREG(status.st_mode) || !ReadAll(file.get(), &header, sizeof(header)) ||
      header.magic != kMagic) {
    return Damaged(path);
  }
  if (header.version != kVersion || header.engine != engine) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": of another version or engine"));
  }
  if (header.guest_size > kMostGuestSize || header.contents_size > size ||
      sizeof(header) + header.guest_size + header.contents_size != size) {
    return Damaged(path);
  }
  std::string bytes(header.guest_size, '\0');
  if (!ReadAll(file.get(), bytes.data(), bytes.size()) ||
      XXH3_64bits(bytes.data(), bytes.size()) != header.guest_sum) {
    return Damaged(path);
  }
  const hostcalls::Window window = hostcalls::Window::Embedded(0);
  absl::StatusOr<SavedGuest> guest = DecodeGuest(bytes, window);
  if (!guest.ok() || guest->contents.size() != header.contents_size) return Damaged(path);
  if (!ProcessorFeatures::OfHost().HasAllOf(guest->features)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": was saved on a processor that can do more"));
  }

  if (files != nullptr) MakePrivate(*guest);
  Checksum sum;
  const auto fill = [&](memory::MemoryImage::Writer& writer) {
    std::vector<std::byte> part(kAtOnce);
    absl::Status filled = absl::OkStatus();
    guest->contents.ForEach([&](const GuestRange& range) {
      for (GuestVirt at = range.start; filled.ok() && at < range.end;) {
        const std::uint64_t count = std::min<std::uint64_t>(range.end - at, part.size());
        if (!ReadAll(file.get(), part.data(), count)) {
          filled = Damaged(path);
          return;
        }
        sum.Add(part.data(), count);
        filled = writer.Write({at, at + count}, part.data());
        at = at + count;
      }
    });
    return filled;
  };
  absl::StatusOr<std::shared_ptr<const memory::MemoryImage>> image =
      memory::MemoryImage::Make(guest->memory, window.limit, fill);
  if (!image.ok()) return image.status();
  if (sum.Sum() != header.contents_sum) return Damaged(path);
  absl::StatusOr<InstanceSnapshot> snapshot =
      Revive(*std::move(guest), *std::move(image), files);
  if (!snapshot.ok()) return snapshot.status();
  snapshot->engine = engine;
  return std::make_shared<InstanceSnapshot>(*std::move(snapshot));
}

}  // namespace dunebox::plugin
