#include "sandbox/worker/keeper.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <thread>

namespace dunebox::worker {
namespace {

// An event's token: the ward's id, and which of its two descriptors.
constexpr std::uint64_t kIsDoorbell = 1;

}  // namespace

// Never destroyed: sandboxes may end while the process's statics do.
Keeper& Keeper::Instance() {
  static Keeper& instance = *new Keeper;
  return instance;
}

Keeper::Keeper() : poll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (!poll_.valid()) return;
  const std::uint64_t all = ~std::uint64_t{0};
  std::uint64_t before = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof(before));
  std::thread([this] { Main(); }).detach();
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, sizeof(before));
}

bool Keeper::Listen(int fd, std::uint64_t token) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = token;
  return epoll_ctl(poll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Keeper::Ignore(int fd) { epoll_ctl(poll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

absl::StatusOr<std::uint64_t> Keeper::Add(Ward& ward, int pidfd, int doorbell) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t id = next_id_++;
  if (!Listen(pidfd, id << 1) || !Listen(doorbell, id << 1 | kIsDoorbell)) {
    Ignore(pidfd);
    return absl::ResourceExhaustedError("nobody can be told when a sandbox's process dies");
  }
  entries_[id] = {&ward, pidfd, doorbell};
  return id;
}

void Keeper::Remove(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  Ignore(found->second.pidfd);
  Ignore(found->second.doorbell);
  entries_.erase(found);
}

void Keeper::OnEvent(std::uint64_t token) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(token >> 1);
  if (found == entries_.end()) return;
  const Entry& entry = found->second;
  if ((token & kIsDoorbell) == 0) {
    Ignore(entry.pidfd);
    entry.ward->OnDeath();
    return;
  }
  std::uint64_t rings;
  if (read(entry.doorbell, &rings, sizeof(rings)) < 0 || !entry.ward->OnDoorbell()) {
    Ignore(entry.doorbell);
  }
}

void Keeper::Main() {
  std::array<epoll_event, 16> events;
  for (;;) {
    const int count = epoll_wait(poll_.get(), events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) OnEvent(events[static_cast<std::size_t>(i)].data.u64);
  }
}

}  // namespace dunebox::worker
