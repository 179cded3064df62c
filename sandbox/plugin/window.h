// 4 GiB of the process's addresses that belong to one sandbox, with guards on either side, as long as it
// lives. Nothing else of the process is ever mapped there: what the guest has not mapped is reserved.
//
//   absl::StatusOr<ReservedWindow> window = ReservedWindow::Create();
//   hostcalls::GuestMemory memory(window->window());
#ifndef DUNEBOX_SANDBOX_PLUGIN_WINDOW_H_
#define DUNEBOX_SANDBOX_PLUGIN_WINDOW_H_

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "hostcalls/memory/guest_memory.h"

namespace dunebox::plugin {

class ReservedWindow {
 public:
  // At a random place of the user half. kResourceExhausted: there is none, or RLIMIT_AS forbids it.
  static absl::StatusOr<ReservedWindow> Create();
  ReservedWindow(ReservedWindow&& other) noexcept : base_(std::exchange(other.base_, 0)) {}
  ReservedWindow& operator=(ReservedWindow&&) = delete;
  ~ReservedWindow();

  hostcalls::Window window() const { return hostcalls::Window::Embedded(base_); }

 private:
  explicit ReservedWindow(std::uint64_t base) : base_(base) {}

  std::uint64_t base_;
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_WINDOW_H_
