// When the guest's ring 0 is lent the memory pool (AddressSpace::OpenPool), and when it is taken back.
//
// Before the supervisor or the kernel may look at memory there, for a system call or a signal frame, the pool is
// closed, and stays so until that is over: what the kernel finds at a pointer is exactly what the program may use.
// Calls whose pointers all lead elsewhere, or with a single thread to what the program may read and write, leave it
// open; so do threads that sleep in one. To open and close it costs
// a few of the kernel's calls, so it is lent to a process when a thread of it makes several calls that ring 0
// could have answered, or takes faults there, one after the other, and less readily after every time that it was
// for little. Never in memory that a vforked child shares.
//
//   thread.pool_use.BeforeCall(thread, request);
//   ...
//   thread.pool_use.AfterCall(thread, request);
#ifndef DUNEBOX_RUNTIME_PROCESS_POOL_USE_H_
#define DUNEBOX_RUNTIME_PROCESS_POOL_USE_H_

#include <atomic>
#include <optional>
#include <utility>

#include "hostcalls/dispatch/caller.h"
#include "runtime/engine.h"
#include "runtime/memory/address_space.h"

namespace dunebox::process {

class GuestThread;

// How much a process's pool has been worth. Any thread's to change; a lost change is no harm.
class PoolWorth {
 public:
  // The host has made a call that the pool could have answered.
  void OnMiss() { missed_.store(missed() + 1, std::memory_order_relaxed); }
  // Whether it is to be opened after so many in a row. After openings that were for little it takes longer rows; but a program that
  // never has such rows gets another chance, too, after more of such calls with others between them.
  bool IsWanted(unsigned row) const { return row >= needed() || missed() >= kPatience * needed(); }
  void OnOpen() { missed_.store(0, std::memory_order_relaxed); }
  // It was closed after so many answers.
  void OnClose(std::uint64_t answered);

 private:
  unsigned needed() const { return needed_.load(std::memory_order_relaxed); }
  unsigned missed() const { return missed_.load(std::memory_order_relaxed); }

  static constexpr unsigned kPatience = 4;
  static constexpr unsigned kLeastRow = 2;
  static constexpr unsigned kLongestRow = 256;
  std::atomic<unsigned> needed_ = kLeastRow;
  std::atomic<unsigned> missed_ = 0;  // since it was last opened
};

// The pool is closed as long as one of these exists.
class PoolPause {
 public:
  explicit PoolPause(GuestThread& thread);
  PoolPause(PoolPause&& other) noexcept : space_(std::exchange(other.space_, nullptr)) {}
  PoolPause& operator=(PoolPause&&) = delete;
  ~PoolPause() {
    if (space_ != nullptr) space_->EndUse();
  }

 private:
  memory::AddressSpace* space_;
};

class PoolUse {
 public:
  void BeforeCall(GuestThread& thread, const hostcalls::Request& request);
  void AfterCall(GuestThread& thread, const hostcalls::Request& request);
  // For as long as a signal's frame is written or read; none where its stack lies elsewhere.
  std::optional<PoolPause> PauseForFrame(GuestThread& thread) const;
  // A fault has been delivered: for one in memory that ring 0 could have had it counts as a call.
  void AfterFault(GuestThread& thread, const runtime::Fault& fault);

 private:
  bool StaysClosed(const GuestThread& thread, std::uint64_t number) const;
  void OpenAfterRow(GuestThread& thread);

  std::optional<PoolPause> call_;  // of the call that is being made
  unsigned row_ = 0;               // calls of the kind without one between that needs the pool closed
};

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_POOL_USE_H_
