// The rights of the process's own pages, limited on top of what the program gave them: by Protect, and for as long as a
// page is watched for its first write. Remembers what lies underneath, so that a limit can be given back; what the
// kernel enforces is always the intersection.
//
//   rights.Protect(page, Rights::kRead);   // the program's own: read and write
//   rights.Protect(page, Rights::kAll);    // read and write again
//
// A page that no longer has the rights it was given here has been mapped anew, or changed by the program: the next limit
// takes that for its own rights. Giving back does not look, and overrules it. Nor does anything look at claimed pages.
// Thread-safe. Takes no memory from the heap and is never interrupted by a signal while it has its lock, so a handler may
// call it and may write to watched pages, whatever was interrupted. A stack that somebody watches pages of is not one to call
// from: its page may be closed in the middle of a call.
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_PROCESS_RIGHTS_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_PROCESS_RIGHTS_H_

#include <signal.h>

#include <cstddef>
#include <mutex>
#include <optional>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "libdune/software/page_marks.h"
#include "libdune/software/process_maps.h"

namespace dune::software {

// Whose holder gets no signals: a handler in the holder's own thread would wait for it for ever.
class UninterruptedLock {
 public:
  void lock();
  void unlock();

 private:
  std::mutex mutex_;
  std::optional<sigset_t> before_;  // the holder's signals, if it is this that keeps them out
};

class ProcessRights {
 public:
  explicit ProcessRights(const ProcessMaps& maps) : maps_(maps) {}

  // kNotFound: not all of it is mapped, and nothing was changed. kResourceExhausted: the kernel has no room for more
  // mappings with different rights; a part of the range may have its old rights.
  absl::Status Protect(Range range, Rights rights);

  // The kernel is not asked about `range` until it is disclaimed: the caller says that its mappings and the program's own
  // rights stay what they are. kNotFound: not all of it is mapped, and nothing is claimed.
  absl::Status Claim(Range range);
  void Disclaim(Range range);

  // From now on the first write to each page is caught. Errors as above.
  absl::Status Watch(Range range);
  absl::Status Unwatch(Range range);
  // The parts of a watched range that were written to since they were last watched; they are watched again before
  // `visitor` is called. No lock is held meanwhile. kFailedPrecondition: a part is not watched any more, for it was
  // mapped anew.
  absl::Status RewatchWritten(Range range, absl::FunctionRef<void(Range)> visitor);
  bool IsWatched(std::uintptr_t address);  // and has not been written to

  // Whether a fault came of watching alone: the access can be made now. Marks the page as written if it is a write.
  bool Resolve(std::uintptr_t address, Rights wanted);

  // Around a fork, so that the child's copy is whole.
  void Lock() { lock_.lock(); }
  void Unlock() { lock_.unlock(); }

 private:
  // All of these under the lock.
  absl::Status Learn(Range range);   // notes the program's own rights where nothing is noted, or what is is outdated
  bool IsUpToDate(Range range);      // of what is mapped there, and watched
  bool IsClaimed(Range range);       // all of it
  void Forget(Range range);          // of the pages that are neither limited nor tracked nor claimed
  absl::Status Apply(Range range);   // lets the kernel know
  template <typename Change>
  void ChangeNotes(Range range, Change change);  // change(Note&) for what is noted
  void SetTracked(Range range, bool is_tracked);
  // Fills `written`, makes `range` what is still to be looked at, and says how many were found.
  std::size_t TakeWritten(Range& range, std::span<Range> written);
  void WatchAgain(Range range);

  const ProcessMaps& maps_;
  UninterruptedLock lock_;
  PageMarks marks_;
};

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_PROCESS_RIGHTS_H_
