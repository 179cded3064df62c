#include "sandbox/worker/channel.h"

#include <emmintrin.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "hostcalls/check.h"

namespace dunebox::worker {
namespace {

// Rounds of looking before sleeping, for some microseconds or some tens of them.
constexpr unsigned kFewRounds = 256, kMostRounds = 2048;
// Where looking is in vain, because the processors are busy or answers slow, it is tried again this
// often.
constexpr unsigned kTriedAgain = 64;
constexpr std::uint64_t kSecond = 1'000'000'000;

// Where there is one processor, the other side cannot answer while we look.
bool HasSeveralProcessors() {
  static const bool has_several = [] {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) > 1;
  }();
  return has_several;
}

// Shared between processes, so not private.
void Sleep(std::atomic<std::uint32_t>& word, std::uint32_t value, std::uint64_t time) {
  const timespec timeout{.tv_sec = static_cast<time_t>(time / kSecond),
                         .tv_nsec = static_cast<long>(time % kSecond)};
  syscall(SYS_futex, &word, FUTEX_WAIT, value, time == kNever ? nullptr : &timeout, nullptr, 0);
}
void Wake(std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, std::numeric_limits<int>::max(), nullptr, nullptr, 0);
}

}  // namespace

std::uint64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kSecond + static_cast<std::uint64_t>(now.tv_nsec);
}

void Channel::Send(Operation operation, std::string_view bytes) {
  DUNEBOX_CHECK(bytes.size() <= kMostPayload, "a message that is larger than a slot");
  std::ranges::copy(std::as_bytes(std::span(bytes)), out_->payload);
  out_->operation = static_cast<std::uint32_t>(operation);
  out_->size = static_cast<std::uint32_t>(bytes.size());
  // The receiver says that it sleeps, then looks once more: one of us sees the other.
  out_->number.fetch_add(1, std::memory_order_seq_cst);
  if (out_->is_slept_on.load(std::memory_order_seq_cst) != 0) Wake(out_->number);
}

bool Channel::Spin() {
  if (HasMessage()) return true;
  if (!HasSeveralProcessors()) return false;
  if (rounds_ == 0 && ++sleeps_ % kTriedAgain != 0) return false;
  const unsigned rounds = std::max(rounds_, kFewRounds);
  for (unsigned round = 0; round < rounds; ++round) {
    _mm_pause();
    if (!HasMessage()) continue;
    rounds_ = std::min(2 * rounds, kMostRounds);
    return true;
  }
  rounds_ = rounds > kFewRounds ? rounds / 2 : 0;
  return false;
}

Channel::Outcome Channel::Receive(Message& message, std::uint64_t deadline,
                                  const std::atomic<bool>& ended) {
  if (!Spin()) {
    in_->is_slept_on.store(1, std::memory_order_seq_cst);
    while (in_->number.load(std::memory_order_seq_cst) == received_ &&
           !ended.load(std::memory_order_seq_cst)) {
      const std::uint64_t now = Now();
      if (now >= deadline) {
        in_->is_slept_on.store(0, std::memory_order_relaxed);
        return Outcome::kTimedOut;
      }
      Sleep(in_->number, received_, deadline == kNever ? kNever : deadline - now);
    }
    in_->is_slept_on.store(0, std::memory_order_relaxed);
  }
  if (ended.load(std::memory_order_seq_cst)) return Outcome::kEnded;
  received_ = in_->number.load(std::memory_order_acquire);
  // Both may change while we look: each is read once.
  message.operation = *const_cast<volatile std::uint32_t*>(&in_->operation);
  const std::uint32_t size = *const_cast<volatile std::uint32_t*>(&in_->size);
  message.bytes.resize(std::min<std::size_t>(size, kMostPayload));
  std::memcpy(message.bytes.data(), in_->payload, message.bytes.size());
  return Outcome::kMessage;
}

void Channel::Interrupt(Direction& in) {
  in.number.fetch_add(1, std::memory_order_seq_cst);
  Wake(in.number);
}

}  // namespace dunebox::worker
