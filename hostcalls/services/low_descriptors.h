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
//
// Most of them do no harm while a sibling thread can name them. Those of virtual machines do: their
// memory holds registers. They are made in a Secret, and whoever copies or maps a descriptor of the
// guest's does it in a Use: one waits for the other. So no number that the guest can name is one of
// them at such a moment, and the guest never has a copy. Forks wait for secrets without limit,
// because making such a descriptor waits for nobody. Both come after every lock but the limits'.
//
//   const LowDescriptors::Use use(limits.low_descriptors);
//   HostCall(caller, SYS_dup, arguments);
//
// A vforked child has its own table but its parent's memory and engine: the Window is its own, Use
// and Secret are those of the first process in this memory.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_LOW_DESCRIPTORS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_LOW_DESCRIPTORS_H_

#include <atomic>
#include <chrono>

namespace dunebox::hostcalls {

// Said to the constructor of what is a vforked child's own and begins with its parent's.
struct OfVforkedChild {};

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

  // While one is open there is no Secret. Not nested. Nothing in it waits for another thread; what
  // a dup2() closes on the way takes the file system's time.
  class Use {
   public:
    explicit Use(LowDescriptors& descriptors);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    LowDescriptors& descriptors_;
  };

  // While one is open there is no Use and no fork.
  class Secret {
   public:
    explicit Secret(LowDescriptors& descriptors);
    ~Secret();
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;

   private:
    LowDescriptors& root_;
  };

  LowDescriptors() : root_(*this) {}
  // A vforked child may be killed at any time: the parent destroys it when the child has ended.
  LowDescriptors(OfVforkedChild, LowDescriptors& parent) : root_(parent.root_) {}
  ~LowDescriptors();
  LowDescriptors(const LowDescriptors&) = delete;
  LowDescriptors& operator=(const LowDescriptors&) = delete;

  // Around the copying of the descriptor table. No new window opens in between. The caller has no
  // window open. Release may be called by another thread, or by the vforked child.
  void HoldForFork();
  void ReleaseAfterFork();
  // In a forked child, which is alone with its copy of the memory.
  void ResetInChild();

 private:
  std::atomic<int> open_windows_{0};
  std::atomic<int> forks_{0};
  std::atomic<int> uses_{0};

  LowDescriptors& root_;  // of the first process in this memory; what follows is used there only
  std::atomic<int> all_uses_{0};
  std::atomic<int> all_forks_{0};
  std::atomic<int> secrets_{0};  // also those that still wait for uses to end
  std::atomic<int> making_{0};   // those that do not wait any more
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_LOW_DESCRIPTORS_H_
