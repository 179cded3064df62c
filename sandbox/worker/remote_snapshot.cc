// Snapshots behind two walls. The memory of a guest goes into a file that the host has made, since a worker can make
// none, and that is sealed when the host has it back; what the worker says besides is checked as a saved sandbox of a
// stranger's is. What host and guest share is in no worker's image: the host keeps and restores it.
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "hostcalls/memory/address.h"
#include "hostcalls/memory/sealed_file.h"
#include "sandbox/plugin/host_files.h"
#include "sandbox/plugin/original_process.h"
#include "sandbox/plugin/saved_guest.h"
#include "sandbox/worker/remote_guest.h"

namespace dunebox::worker {

using plugin::InstanceSnapshot;
using runtime::FileDescriptor;

namespace {

constexpr hostcalls::Window kWindow = hostcalls::Window::Embedded(0);
constexpr std::uint64_t kMostGuest = std::uint64_t{64} << 20;

absl::Status NotSent() {
  return absl::ResourceExhaustedError("a file for a sandbox's process cannot be sent");
}

// With what was given out.
memory::RangeSet PagesOf(const plugin::ArenaState& state) {
  memory::RangeSet pages;
  for (const auto& [address, size] : state.used) {
    pages.Add({GuestVirt{PageDown(address)}, GuestVirt{PageUp(address + size)}});
  }
  return pages;
}

bool WriteAt(int fd, std::span<const std::byte> bytes, std::uint64_t at) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    at += static_cast<std::uint64_t>(written);
  }
  return true;
}

}  // namespace

// All lines of host threads, so that no call begins; none when one is under way.
class RemoteGuest::AllLines {
 public:
  explicit AllLines(RemoteGuest& guest) : guest_(guest) {
    const std::lock_guard lock(guest_.mutex_);
    if (guest_.free_lines_.size() == guest_.counts_.host_threads) {
      lines_ = std::exchange(guest_.free_lines_, {});
    }
  }
  ~AllLines() {
    if (lines_.empty()) return;
    const std::lock_guard lock(guest_.mutex_);
    guest_.free_lines_ = std::move(lines_);
    guest_.changed_.notify_all();
  }
  AllLines(const AllLines&) = delete;
  AllLines& operator=(const AllLines&) = delete;
  bool are_taken() const { return !lines_.empty(); }
  Line& first() const { return *lines_.front(); }

 private:
  RemoteGuest& guest_;
  std::vector<Line*> lines_;
};

// ---- taking one ---------------------------------------------------------------------------------

// Whole pages with what was given out, where the window has them.
absl::StatusOr<memory::RangeSet> RemoteGuest::CopyShared(const plugin::ArenaState& state,
                                                         int fd) const {
  const memory::RangeSet pages = PagesOf(state);
  bool is_written = true;
  pages.ForEach([&](const GuestRange& range) {
    const std::byte* const from = SharedAt(range.start.value, range.size());
    is_written = is_written && from != nullptr &&
                 WriteAt(fd, {from, range.size()}, range.start.value);
  });
  if (!is_written) return absl::ResourceExhaustedError("no memory for an image of the sandbox's");
  return pages;
}

absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> RemoteGuest::Snapshot() {
  if (absl::Status status = plugin::CheckOriginalProcess(); !status.ok()) return status;
  const absl::Status failed = absl::FailedPreconditionError("the sandbox has failed: reset it");
  if (has_ended_) return failed;
  const AllLines lines(*this);
  if (!lines.are_taken()) return absl::FailedPreconditionError("a call is under way");
  const absl::StatusOr<int> made =
      hostcalls::SealedFile::MakeUnsealed("dunebox-image", kWindow.limit);
  if (!made.ok()) return made.status();
  FileDescriptor image(*made);
  plugin::ArenaState shared = arena_->Save();
  absl::StatusOr<memory::RangeSet> contents = CopyShared(shared, image.get());
  if (!contents.ok()) return contents.status();
  const std::uint32_t number = SendFile(image.get());
  if (number == 0) return NotSent();
  const auto current = [&] {
    // Once it is taken the worker has no older one any more, whatever comes of it here.
    const std::lock_guard lock(mutex_);
    return std::exchange(current_, nullptr);
  }();
  Writer writer;
  writer.Put(number);
  const absl::StatusOr<std::string> taken = AskManager(Operation::kSnapshot, writer.bytes());
  if (!taken.ok()) {
    const std::lock_guard lock(mutex_);
    current_ = current;
    return has_ended_ ? failed : taken.status();
  }
  const std::string described = FetchText(kTextGuest, kMostGuest);
  return Believe(described, std::move(image), std::move(shared), *contents);
}

absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> RemoteGuest::Believe(
    std::string_view described, FileDescriptor image, plugin::ArenaState shared,
    const memory::RangeSet& contents) {
  absl::StatusOr<plugin::SavedGuest> guest = plugin::DecodeGuest(described, kWindow);
  absl::StatusOr<hostcalls::SealedFile> sealed =
      hostcalls::SealedFile::Adopt(image.release(), kWindow.limit);
  if (!guest.ok() || !sealed.ok()) return Break(Breach());
  const GuestRange part = plugin::SharedPart(guest->memory.map);
  if (part.start.value != shared_start_ || part.size() != shared_->bytes().size()) {
    return Break(Breach());
  }
  contents.ForEach([&](const GuestRange& range) { guest->contents.Add(range); });
  absl::StatusOr<std::shared_ptr<const memory::MemoryImage>> memory = memory::MemoryImage::Of(
      guest->memory, kWindow.limit, *std::move(sealed), guest->contents);
  if (!memory.ok()) return memory.status();
  guest->shared = std::move(shared);
  absl::StatusOr<InstanceSnapshot> revived =
      plugin::Revive(*std::move(guest), *std::move(memory), nullptr);
  if (!revived.ok()) return revived.status();
  auto snapshot = std::make_shared<InstanceSnapshot>(*std::move(revived));
  snapshot->engine = plugin::SnapshotEngineOf(policy_);
  const std::lock_guard lock(mutex_);
  snapshot->named = named_;
  snapshot->callbacks = callbacks_;
  current_ = snapshot.get();
  return snapshot;
}

// ---- going back ---------------------------------------------------------------------------------

// Who has written where is nothing that the kernel would tell of another process, so what was given out is compared,
// and written where it differs; the rest is given up, in both processes. A worker that goes on writing meanwhile has
// only its own answers wrong.
void RemoteGuest::RestoreShared(const InstanceSnapshot& snapshot) {
  const memory::RangeSet pages = PagesOf(snapshot.shared);
  memory::RangeSet rest;
  rest.Add({GuestVirt{shared_start_}, GuestVirt{shared_start_ + shared_->bytes().size()}});
  pages.ForEach([&](const GuestRange& range) { rest.Remove(range); });
  rest.ForEach([&](const GuestRange& range) {
    std::byte* const at = SharedAt(range.start.value, range.size());
    if (madvise(at, range.size(), MADV_REMOVE) != 0) std::memset(at, 0, range.size());
  });
  pages.ForEach([&](const GuestRange& range) {
    for (GuestVirt page = range.start; page < range.end; page = page + kPageSize) {
      std::byte* const to = SharedAt(page.value, kPageSize);
      if (to == nullptr) continue;
      const std::byte* const from = snapshot.memory->At(page);
      if (std::memcmp(to, from, kPageSize) != 0) std::memcpy(to, from, kPageSize);
    }
  });
}

absl::Status RemoteGuest::ReturnTo(const InstanceSnapshot& snapshot) {
  if (absl::Status status = plugin::CheckOriginalProcess(); !status.ok()) return status;
  absl::Status gone = absl::AbortedError("the sandbox's process cannot go back");
  {
    const std::lock_guard lock(mutex_);
    if (has_ended_ || current_ != &snapshot) return gone;
  }
  const AllLines lines(*this);
  if (!lines.are_taken()) return absl::FailedPreconditionError("a call is under way");
  // Not of the manager: threads of the plugin's, which are waited for, may be in callbacks that ask something of it.
  if (!Ask(lines.first(), Operation::kReset, {}, kManagerTime).ok()) return gone;
  RestoreShared(snapshot);
  const std::lock_guard lock(mutex_);
  named_ = snapshot.named;
  failure_.reset();
  return absl::OkStatus();
}

absl::StatusOr<internal::Block> RemoteGuest::Claim(std::uint64_t address, std::size_t size) {
  if (arena_->Claim(address, size)) return internal::Block(arena_, address, size);
  return absl::NotFoundError("no such memory, or it was claimed");
}

// ---- beginning with one -------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<plugin::Guest>> RemoteGuest::Create(
    const Policy& policy, const InstanceSnapshot& snapshot) {
  return CreateFrom(policy, snapshot, nullptr);
}

absl::StatusOr<std::unique_ptr<plugin::Guest>> RemoteGuest::Successor(
    const InstanceSnapshot& snapshot) {
  return CreateFrom(policy_, snapshot, this);
}

absl::StatusOr<std::unique_ptr<plugin::Guest>> RemoteGuest::CreateFrom(
    const Policy& policy, const InstanceSnapshot& snapshot, const RemoteGuest* before) {
  plugin::NoteOriginalProcess();
  if (absl::Status status = plugin::CheckOriginalProcess(); !status.ok()) return status;
  std::unique_ptr<RemoteGuest> guest(new RemoteGuest(policy));
  if (absl::Status status = guest->StartFrom(snapshot, before); !status.ok()) {
    return CheckStarted(status);
  }
  return guest;
}

absl::Status RemoteGuest::StartFrom(const InstanceSnapshot& snapshot, const RemoteGuest* before) {
  const GuestRange part = plugin::SharedPart(snapshot.memory->state().map);
  StartOrder order{.policy = policy_,
                   .random = snapshot.random,
                   .arena_size = part.empty() ? SharedSizeOf(policy_) : part.size()};
  if (order.arena_size > kMostShared) {
    return absl::FailedPreconditionError("a saved sandbox that shares more than is possible");
  }
  if (before != nullptr) {
    shared_ = before->shared_;
    arena_ = before->arena_;
    is_shared_given_ = before->is_shared_given_;
  } else if (absl::Status status = MakeShared(order.arena_size); !status.ok()) {
    return status;
  }
  shared_start_ = part.start.value;
  RestoreShared(snapshot);
  if (arena_ == nullptr && !part.empty()) {
    arena_ = std::make_shared<plugin::Arena>(shared_, OffsetOf(shared_start_));
    arena_->Restore(snapshot.shared);
    *is_shared_given_ = !snapshot.shared.free.empty() || !snapshot.shared.used.empty();
  }
  if (absl::Status status = StartWorker(); !status.ok()) return status;
  if (absl::Status status = SendSnapshot(snapshot, order); !status.ok()) return status;
  if (absl::Status status = GiveOrder(order); !status.ok()) return status;
  if (arena_->host_offset() != OffsetOf(shared_start_)) return Break(Breach());
  for (const auto& callback : snapshot.callbacks) {
    if (absl::StatusOr<std::uint64_t> added = AddCallback(callback); !added.ok()) {
      return added.status();
    }
  }
  const std::lock_guard lock(mutex_);
  named_ = snapshot.named;
  current_ = &snapshot;
  return absl::OkStatus();
}

absl::Status RemoteGuest::SendSnapshot(const InstanceSnapshot& snapshot, StartOrder& order) {
  const std::optional<int> image = snapshot.memory->file().Get();
  if (!image) return absl::FailedPreconditionError("the application has closed a sandbox's image");
  const std::string described = plugin::EncodeGuest(plugin::Describe(snapshot));
  const absl::StatusOr<hostcalls::SealedFile> file = hostcalls::SealedFile::Create(
      "dunebox-guest", described.size(), [&](int fd) {
        return WriteAt(fd, std::as_bytes(std::span(described)), 0) ? absl::OkStatus() : NotSent();
      });
  if (!file.ok()) return file.status();
  const std::optional<int> guest = file->Get();
  order.image = SendFile(*image);
  order.guest = guest ? SendFile(*guest) : 0;
  if (order.image == 0 || order.guest == 0) return NotSent();
  for (const std::string& path : snapshot.named) {
    std::string name;
    // One that is not there any more is not found by the plugin either.
    if (const std::uint32_t number = SendFile(path, name)) order.named.emplace_back(number, name);
  }
  return absl::OkStatus();
}

}  // namespace dunebox::worker
