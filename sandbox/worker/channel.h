// One side of a slot: sends, and waits for the answer, first a little while without a system call,
// then asleep on a futex. It looks as long as that has been of use lately, and hardly at all where
// the processors are busy.
//
// The other side may be hostile: it can change the shared memory at any moment, say anything and
// never answer. A message is copied out once, its size checked before; nothing else is read.
//
//   Channel channel(slot.to_worker, slot.to_host);
//   channel.Send(Operation::kCall, bytes);
//   Channel::Outcome outcome = channel.Receive(message, deadline, ended);
#ifndef DUNEBOX_SANDBOX_WORKER_CHANNEL_H_
#define DUNEBOX_SANDBOX_WORKER_CHANNEL_H_

#include <atomic>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "sandbox/worker/protocol.h"

namespace dunebox::worker {

// Nanoseconds of the monotonic clock.
std::uint64_t Now();
inline constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

struct Message {
  std::uint32_t operation = 0;
  std::string bytes;
};

class Channel {
 public:
  Channel(Direction& out, Direction& in) : out_(&out), in_(&in) {}

  // At most kMostPayload bytes.
  void Send(Operation operation, std::string_view bytes);

  enum class Outcome : std::uint8_t { kMessage, kEnded, kTimedOut };
  // kEnded: `ended` is set, and nobody will answer.
  Outcome Receive(Message& message, std::uint64_t deadline, const std::atomic<bool>& ended);

  // Has the other side said anything that was not received?
  bool HasMessage() const { return in_->number.load(std::memory_order_acquire) != received_; }

  // For whoever sets `ended`, behind that: wakes a receiver of this side.
  static void Interrupt(Direction& in);

 private:
  // Looks a little while, if that has been of use lately.
  bool Spin();

  Direction* out_;
  Direction* in_;
  std::uint32_t received_ = 0;
  unsigned rounds_ = 256;  // of looking; 0: in vain, the last time
  unsigned sleeps_ = 0;    // since then
};

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_CHANNEL_H_
