// Descriptors of the runtime's that have an ordinary number for a moment.
//
// The kernel gives every new descriptor the lowest free number; only then can it be moved into the
// reserved range. A fork in between would leave the child with a copy of it that nobody knows of.
// So whoever makes one opens a window, and a fork waits until all windows are closed. Opening a
// path may block for long (a network file system, FUSE): such a call has made no descriptor yet, so
// the fork waits kLongestWait for it and no longer, and nobody ever waits for a blocked call.
// What is left: a call that blocked for so long and ends in the very moment of the fork.
//
//   const LowDescriptors::Window window(limits.low_descriptors);
//   const int low = memfd_create(...);   // and move it
#ifndef DUNEBOX_HOSTCALLS_SERVICES_LOW_DESCRIPTORS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_LOW_DESCRIPTORS_H_

#include <atomic>
#include <chrono>

namespace dunebox::hostcalls {

class LowDescriptors {
 public:
  static constexpr std::chrono::milliseconds kLongestWait{100};

  // May be nested in another one of the same thread.
  class Window {
   public:
    explicit Window(LowDescriptors& descriptors);
    ~Window();
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;

   private:
    LowDescriptors& descriptors_;
    const bool outermost_;
  };

  LowDescriptors() = default;
  LowDescriptors(const LowDescriptors&) = delete;
  LowDescriptors& operator=(const LowDescriptors&) = delete;

  // Around the copying of the descriptor table. No new window opens in between. The caller has no
  // window open. Release may be called by another thread, or by the vforked child.
  void HoldForFork();
  void ReleaseAfterFork() { forks_.fetch_sub(1); }
  // In a forked child, which is alone.
  void ResetInChild();

 private:
  std::atomic<int> open_windows_{0};
  std::atomic<int> forks_{0};
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_LOW_DESCRIPTORS_H_
