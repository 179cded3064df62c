// A thread of the host's process, for a plugin that asks for one: that there can be no more of them is an answer. (Of
// std::thread's it is an exception, which nobody catches.)
//
//   const std::optional<pthread_t> thread = StartHostThread([this] { Serve(); });
//   if (!thread) return Errno{EAGAIN};
#ifndef DUNEBOX_SANDBOX_PLUGIN_HOST_THREAD_H_
#define DUNEBOX_SANDBOX_PLUGIN_HOST_THREAD_H_

#include <pthread.h>

#include <memory>
#include <optional>
#include <utility>

namespace dunebox::plugin {

// To be joined or detached. Nothing: `run` is gone, and was not called.
template <typename Run>
std::optional<pthread_t> StartHostThread(Run run) {
  auto owned = std::make_unique<Run>(std::move(run));
  const auto enter = [](void* raw) -> void* {
    const std::unique_ptr<Run> mine(static_cast<Run*>(raw));
    (*mine)();
    return nullptr;
  };
  pthread_t thread;
  if (pthread_create(&thread, nullptr, enter, owned.get()) != 0) return std::nullopt;
  (void)owned.release();  // the thread's
  return thread;
}

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_HOST_THREAD_H_
