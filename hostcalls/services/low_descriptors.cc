#include "hostcalls/services/low_descriptors.h"

#include <time.h>

namespace dunebox::hostcalls {
namespace {

// Of this thread: the outermost counts. A nested one must not wait for a fork that waits for it.
thread_local int depth = 0;

// No lock with waiters in it: the child of a fork would inherit them.
void Pause() {
  constexpr timespec kPause{.tv_sec = 0, .tv_nsec = 20'000};
  nanosleep(&kPause, nullptr);
}

}  // namespace

LowDescriptors::Window::Window(LowDescriptors& descriptors)
    : descriptors_(descriptors), outermost_(depth++ == 0) {
  if (!outermost_) return;
  for (;;) {
    descriptors_.open_windows_.fetch_add(1);
    if (descriptors_.forks_.load() == 0) return;
    descriptors_.open_windows_.fetch_sub(1);
    while (descriptors_.forks_.load() != 0) Pause();
  }
}

LowDescriptors::Window::~Window() {
  --depth;
  if (outermost_) descriptors_.open_windows_.fetch_sub(1);
}

void LowDescriptors::HoldForFork() {
  forks_.fetch_add(1);
  const auto end = std::chrono::steady_clock::now() + kLongestWait;
  while (open_windows_.load() != 0 && std::chrono::steady_clock::now() < end) Pause();
}

void LowDescriptors::ResetInChild() {
  open_windows_ = 0;
  forks_ = 0;
}

}  // namespace dunebox::hostcalls
