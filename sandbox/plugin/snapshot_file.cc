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
#include "sandbox/plugin/snapshot_format.h"

namespace dunebox::plugin {
namespace {

constexpr std::array<char, 8> kMagic = {'D', 'U', 'N', 'E', 'B', 'O', 'X', 'S'};
constexpr std::uint32_t kVersion = 1;

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

SavedGuest GuestOf(const InstanceSnapshot& snapshot) {
  SavedGuest guest{.features = ProcessorFeatures::OfHost(),
                   .random = snapshot.random,
                   .next_id = snapshot.next_id,
                   .table = snapshot.table,
                   .threads = snapshot.threads,
                   .actions = snapshot.kernel.actions,
                   .directory = snapshot.kernel.directory,
                   .mask = snapshot.kernel.mask,
                   .arena = snapshot.arena,
                   .memory = snapshot.memory->state(),
                   .contents = snapshot.memory->contents()};
  const std::vector<DescriptorState>& open = snapshot.kernel.descriptors;
  for (const DescriptorState& descriptor : open) {
    const auto first = std::ranges::find(open, descriptor.file, &DescriptorState::file);
    const bool is_file = descriptor.file->kind == OpenFile::Kind::kFile;
    guest.files.push_back({.number = descriptor.number,
                           .kind = descriptor.file->kind,
                           .closes_on_exec = descriptor.closes_on_exec,
                           .same_as = is_file && first->number != descriptor.number ? first->number : -1,
                           .name = descriptor.file->name,
                           .offset = descriptor.offset});
  }
  return guest;
}

// The host's memory is not the guest's to read, so these never fault.
std::span<const std::byte> BytesOf(const memory::MemoryImage& image, const GuestRange& range) {
  return {image.At(range.start), range.size()};
}

absl::StatusOr<std::vector<DescriptorState>> OpenFiles(const std::vector<SavedFile>& saved,
                                                       const Files& files) {
  std::vector<DescriptorState> open;
  for (const SavedFile& file : saved) {
    DescriptorState state{.number = file.number,
                          .file = nullptr,
                          .offset = file.offset,
                          .closes_on_exec = file.closes_on_exec};
    if (file.same_as >= 0) {
      state.file = std::ranges::find(open, file.same_as, &DescriptorState::number)->file;
    } else if (file.kind == OpenFile::Kind::kFile) {
      hostcalls::CopyResult<OpenFile> opened = files.Open(file.name, LastLink::kFollowed);
      if (!opened.ok()) {
        return absl::FailedPreconditionError(absl::StrCat(
            file.name, ": was open when the sandbox was saved: ", strerror(opened.error().value)));
      }
      state.file = std::make_shared<OpenFile>(*std::move(opened));
    } else {
      auto other = std::make_shared<OpenFile>();
      other->kind = file.kind;
      state.file = std::move(other);
    }
    open.push_back(std::move(state));
  }
  return open;
}

}  // namespace

absl::Status SaveSnapshot(const InstanceSnapshot& snapshot, const std::string& path) {
  const std::string guest = EncodeGuest(GuestOf(snapshot));
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
  const absl::Status failed = FileError(path);
  unlink(unfinished.c_str());
  return failed;
}

absl::StatusOr<std::shared_ptr<InstanceSnapshot>> OpenSnapshot(const std::string& path,
                                                               SnapshotEngine engine,
                                                               const Files& files) {
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

  absl::StatusOr<std::vector<DescriptorState>> open = OpenFiles(guest->files, files);
  if (!open.ok()) return open.status();
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
      memory::MemoryImage::Make(std::move(guest->memory), window.limit, fill);
  if (!image.ok()) return image.status();
  if (sum.Sum() != header.contents_sum) return Damaged(path);
  return std::make_shared<InstanceSnapshot>(
      InstanceSnapshot{.engine = engine,
                       .memory = *std::move(image),
                       .code = nullptr,
                       .threads = std::move(guest->threads),
                       .kernel = {.actions = guest->actions,
                                  .directory = std::move(guest->directory),
                                  .mask = guest->mask,
                                  .descriptors = *std::move(open),
                                  .files = files.rules()},
                       .arena = std::move(guest->arena),
                       .table = guest->table,
                       .next_id = guest->next_id,
                       .random = guest->random,
                       .callbacks = {}});
}

}  // namespace dunebox::plugin
