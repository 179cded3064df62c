// The threads of one process, and how to make them stand still: for a debugger that looks at them, and
// for a core file.
//
// Whoever is held parks where it would enter guest code, holding no lock, with registers that are exact;
// a system call that it waits in is ended and made again later. A thread that waits for its vforked
// child cannot be had before that is done: it counts as standing still and parks when it comes back.
//
//   threads.Hold(nullptr);        // from a host thread that runs no guest
//   threads.ForEach([](GuestThread& thread) { ... thread.registers ... });
//   threads.ReleaseAll();
#ifndef DUNEBOX_RUNTIME_PROCESS_THREAD_LIST_H_
#define DUNEBOX_RUNTIME_PROCESS_THREAD_LIST_H_

#include <sys/types.h>

#include <condition_variable>
#include <mutex>
#include <vector>

#include "absl/functional/function_ref.h"

namespace dunebox::process {

class GuestThread;

class ThreadList {
 public:
  void Add(GuestThread& thread);
  // Under the id of the calling host thread.
  void Rename(GuestThread& thread);
  void Remove(GuestThread& thread);
  // In a forked child, where nobody else is.
  void ResetInChild(GuestThread& thread);

  // Returns when all threads but this one (null: all) stand still. New ones are held from the start.
  void Hold(const GuestThread* but);
  // The same for a thread that is about to end the process, once. If another one is, parks for good.
  void HoldForEnd(GuestThread& thread);
  // It has not come to that after all: the others go on, if they were held.
  void ReleaseAfterAll(const GuestThread& thread);
  void Release(GuestThread& thread);
  void ReleaseAll();
  // On the thread's own host thread, when it is held: returns when it no longer is.
  void Park(GuestThread& thread);
  // Around the time in which the thread waits for its vforked child.
  void SetAway(GuestThread& thread, bool is_away);

  // In the order in which they began; nobody comes or goes meanwhile.
  void ForEach(absl::FunctionRef<void(GuestThread&)> visit);
  // Null when there is no such thread. It may be gone if it is not held.
  GuestThread* Find(pid_t id);

 private:
  struct Entry {
    GuestThread* thread;
    bool is_parked = false;
    bool is_away = false;
  };
  Entry* EntryOf(const GuestThread& thread);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Entry> entries_;
  bool is_holding_ = false;
  const GuestThread* ending_ = nullptr;
};

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_THREAD_LIST_H_
