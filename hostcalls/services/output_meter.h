// How much the session has written to the files it began with, counted by all its processes
// together: --output.
//
// One page that the runtimes and the guardian share, with the count and with what descriptors 0, 1
// and 2 were at the start, by device and inode: another descriptor of the same pipe, terminal or
// file counts too, however a program came by it. /dev/null does not. What is written to a mapping of
// a file is not seen (--fsize bounds that). Whoever finds no room left says so in the page and
// waits for the guardian to end the session.
//
//   if (meter.IsOutput(fd)) granted = meter.Take(size);   // 0: nothing is left
#ifndef DUNEBOX_HOSTCALLS_SERVICES_OUTPUT_METER_H_
#define DUNEBOX_HOSTCALLS_SERVICES_OUTPUT_METER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dunebox::hostcalls {

class OutputMeter {
 public:
  // A new page, of a file that the caller owns: what descriptors 0 to 2 are now is the output.
  static absl::StatusOr<int> CreateFile(std::uint64_t limit);
  // Maps it. The descriptor stays the caller's.
  static absl::StatusOr<std::unique_ptr<OutputMeter>> Map(int fd);
  ~OutputMeter();
  OutputMeter(const OutputMeter&) = delete;
  OutputMeter& operator=(const OutputMeter&) = delete;

  bool IsOutput(int fd) const;
  // As many of `bytes` as are left.
  std::uint64_t Take(std::uint64_t bytes);
  // Of those taken, what was not written.
  void GiveBack(std::uint64_t bytes);
  // Counts what has been written. False: that was more than were left.
  bool Add(std::uint64_t bytes);

  // The session is to end; returns never, because it does.
  [[noreturn]] void ReachLimit();
  bool IsReached() const;

 private:
  struct Object {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    bool operator==(const Object&) const = default;
  };
  struct Page {
    std::uint64_t limit = 0;
    std::atomic<std::uint64_t> used{0};
    std::atomic<std::uint32_t> is_reached{0};
    std::uint32_t has_terminal = 0;
    std::array<Object, 3> objects;  // an inode of 0: none
  };
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

  explicit OutputMeter(Page* page) : page_(*page) {}

  Page& page_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_OUTPUT_METER_H_
