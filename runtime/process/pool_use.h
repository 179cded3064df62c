// When the guest's ring 0 is lent the memory pool (AddressSpace::OpenPool), and when it is taken back.
//
// Before the supervisor does anything for a system call, or writes a signal frame that could lie in it,
// the pool is closed: what the kernel then finds at a pointer is exactly what the program may use. To
// open and close it costs a few of the kernel's calls, so it is lent to a process that makes several calls
// that ring 0 could have answered, or takes faults there, one after the other, and less readily after every time that it was for little.
// Only a process with one thread, in memory of its own.
//
//   thread.pool_use.BeforeCall(thread, request.number);
//   ...
//   thread.pool_use.AfterCall(thread, request);
#ifndef DUNEBOX_RUNTIME_PROCESS_POOL_USE_H_
#define DUNEBOX_RUNTIME_PROCESS_POOL_USE_H_

#include <cstdint>

#include "hostcalls/dispatch/caller.h"
#include "runtime/engine.h"

namespace dunebox::process {

class GuestThread;

class PoolUse {
 public:
  void BeforeCall(GuestThread& thread, std::uint64_t number);
  void AfterCall(GuestThread& thread, const hostcalls::Request& request);
  // Closes the pool unless the stack that a signal's frame is on, or will be, lies elsewhere.
  void CloseForFrame(GuestThread& thread);
  // A fault has been delivered: for one in memory that ring 0 could have had it counts as a call.
  void AfterFault(GuestThread& thread, const runtime::Fault& fault);

 private:
  void Close(GuestThread& thread);
  void OpenAfterRow(GuestThread& thread);

  static constexpr unsigned kLeastRow = 2;
  static constexpr unsigned kLongestRow = 256;

  unsigned row_ = 0;              // calls of the kind without another between
  unsigned needed_ = kLeastRow;   // as many until the pool is opened
};

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_POOL_USE_H_
