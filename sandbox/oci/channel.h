// Messages between `create` and the process that becomes the container: whole, in order, and ended by the
// death of the other side.
//
//   absl::StatusOr<ChannelPair> pair = ChannelPair::Make();
//   pair->one.Send({Step::kMounted});
//   absl::StatusOr<Message> message = pair->other.Receive();   // fails when the other side is gone
#ifndef DUNEBOX_SANDBOX_OCI_CHANNEL_H_
#define DUNEBOX_SANDBOX_OCI_CHANNEL_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"

namespace dunebox::oci {

// What has been done, or is asked for.
enum class Step : std::uint8_t {
  kFailed,      // the text says why; nothing follows
  kWarning,     // the text says what was left out
  kGrouped,     // to the container: its control groups have been entered
  kUserMade,    // its user namespace waits for mappings
  kUserMapped,  // to the container
  kProcess,     // the text is the id of the container's process
  kKnown,       // to the container; the text is its own id as `create` knows it
  kMounted,     // the view is complete but not entered
  kHooksRan,    // to the container
  kReady,       // it waits for start
  kStart,       // to the container
  kStarted,
};

struct Message {
  Step step = Step::kFailed;
  std::string text{};
};

class Channel {
 public:
  // A connected socket of packets.
  explicit Channel(runtime::FileDescriptor fd) : fd_(std::move(fd)) {}

  // False when the other side is gone.
  bool Send(const Message& message) const;
  absl::StatusOr<Message> Receive() const;
  // The next message has to be this one.
  absl::Status Expect(Step step) const;
  int fd() const { return fd_.get(); }

 private:
  runtime::FileDescriptor fd_;
};

struct ChannelPair {
  Channel one, other;
  static absl::StatusOr<ChannelPair> Make();
};

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_CHANNEL_H_
