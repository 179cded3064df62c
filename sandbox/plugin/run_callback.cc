#include "sandbox/plugin/run_callback.h"

namespace dunebox::plugin {

// Compiled with exceptions (CMakeLists.txt): without them a noexcept stops nothing.
void RunCallback(const internal::Callback& callback, internal::CallbackFrame& frame) noexcept {
  callback.run(frame);
}

}  // namespace dunebox::plugin
