#include "runtime/limits/task_slots.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"

namespace dunebox::runtime {
namespace {

constexpr unsigned kNoExecSeal = 0x8;              // MFD_NOEXEC_SEAL, Linux 6.3
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr std::uint32_t kFree = 0;
constexpr std::uint32_t kClaimed = std::uint32_t{1} << 31;  // ids are below it [linux] PID_MAX_LIMIT

std::uint32_t OwnId() { return static_cast<std::uint32_t>(gettid()); }

bool IsGone(std::uint32_t slot) {
  return kill(static_cast<pid_t>(slot & ~kClaimed), 0) != 0 && errno == ESRCH;
}

}  // namespace

absl::StatusOr<FileDescriptor> TaskSlots::CreateFile(std::uint64_t count) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = memfd_create("dunebox-tasks", kFlags | kNoExecSeal);
  if (fd < 0 && errno == EINVAL) fd = memfd_create("dunebox-tasks", kFlags);  // an older kernel
  FileDescriptor file(fd);
  if (!file.valid() || ftruncate(fd, static_cast<off_t>(count * sizeof(Slot))) != 0 ||
      fcntl(fd, F_ADD_SEALS, kSeals) != 0) {
    return absl::ErrnoToStatus(errno, "--pids: cannot make the memory for the count");
  }
  return file;
}

absl::StatusOr<std::unique_ptr<TaskSlots>> TaskSlots::Map(int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return absl::ErrnoToStatus(errno, "--pids: no memory for the count");
  const auto bytes = static_cast<std::size_t>(info.st_size);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "--pids: cannot map the count");
  const std::span<Slot> slots(static_cast<Slot*>(memory), bytes / sizeof(Slot));
  return std::unique_ptr<TaskSlots>(new TaskSlots(slots));
}

TaskSlots::~TaskSlots() { munmap(slots_.data(), slots_.size_bytes()); }

std::optional<TaskSlots::Claim> TaskSlots::TakeFree(std::uint32_t mark) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    std::uint32_t expected = kFree;
    if (slots_[i].compare_exchange_strong(expected, mark)) return Claim{i, mark};
  }
  return std::nullopt;
}

std::optional<TaskSlots::Claim> TaskSlots::Take() {
  const std::uint32_t mark = kClaimed | OwnId();
  if (const std::optional<Claim> claim = TakeFree(mark)) return claim;
  for (Slot& slot : slots_) {
    std::uint32_t seen = slot.load();
    // Not when it changed meanwhile: then it is somebody's who lives.
    if (seen != kFree && IsGone(seen)) slot.compare_exchange_strong(seen, kFree);
  }
  return TakeFree(mark);
}

bool TaskSlots::Confirm(const Claim& claim) {
  std::uint32_t expected = claim.mark;
  const std::uint32_t own = OwnId();
  return slots_[claim.slot].compare_exchange_strong(expected, own) || expected == own;
}

void TaskSlots::HandOver(const Claim& claim, pid_t id) {
  std::uint32_t expected = claim.mark;
  slots_[claim.slot].compare_exchange_strong(expected, static_cast<std::uint32_t>(id));
}

void TaskSlots::GiveBack(const Claim& claim) {
  std::uint32_t expected = claim.mark;
  slots_[claim.slot].compare_exchange_strong(expected, kFree);
}

void TaskSlots::LeaveThread() {
  const std::uint32_t id = OwnId();
  for (Slot& slot : slots_) {
    std::uint32_t expected = id;
    if (slot.compare_exchange_strong(expected, kFree)) return;
  }
}

}  // namespace dunebox::runtime
