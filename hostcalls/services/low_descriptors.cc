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

LowDescriptors::Use::Use(LowDescriptors& descriptors) : descriptors_(descriptors) {
  LowDescriptors& root = descriptors_.root_;
  for (;;) {
    root.all_uses_.fetch_add(1);
    if (root.secrets_.load() == 0) break;
    root.all_uses_.fetch_sub(1);
    while (root.secrets_.load() != 0) Pause();
  }
  descriptors_.uses_.fetch_add(1);
}

LowDescriptors::Use::~Use() {
  descriptors_.uses_.fetch_sub(1);
  descriptors_.root_.all_uses_.fetch_sub(1);
}

LowDescriptors::Secret::Secret(LowDescriptors& descriptors) : root_(descriptors.root_) {
  root_.secrets_.fetch_add(1);
  while (root_.all_uses_.load() != 0) Pause();
  for (;;) {
    root_.making_.fetch_add(1);
    if (root_.all_forks_.load() == 0) return;
    root_.making_.fetch_sub(1);
    while (root_.all_forks_.load() != 0) Pause();
  }
}

LowDescriptors::Secret::~Secret() {
  root_.making_.fetch_sub(1);
  root_.secrets_.fetch_sub(1);
}

// What a child that was killed has left behind.
LowDescriptors::~LowDescriptors() {
  if (&root_ == this) return;
  root_.all_uses_.fetch_sub(uses_.load());
  root_.all_forks_.fetch_sub(forks_.load());
}

void LowDescriptors::HoldForFork() {
  root_.all_forks_.fetch_add(1);
  forks_.fetch_add(1);
  while (root_.making_.load() != 0) Pause();
  const auto end = std::chrono::steady_clock::now() + kLongestWait;
  while (open_windows_.load() != 0 && std::chrono::steady_clock::now() < end) Pause();
}

void LowDescriptors::ReleaseAfterFork() {
  forks_.fetch_sub(1);
  root_.all_forks_.fetch_sub(1);
}

void LowDescriptors::ResetInChild() {
  for (LowDescriptors* counts : {this, &root_}) {
    counts->open_windows_ = 0;
    counts->forks_ = 0;
    counts->uses_ = 0;
  }
  root_.all_uses_ = 0;
  root_.all_forks_ = 0;
  root_.secrets_ = 0;
  root_.making_ = 0;
}

}  // namespace dunebox::hostcalls
