// Which of the session's limits have refused it something: --mem, --pids, --nofile, --fsize.
//
// Such a limit ends nobody: the program gets an errno, and what it makes of that often says nothing
// of the reason. So the runtimes of a session note here what they have refused, and at its end the
// user is told. One page that they share with the process that Dunebox was started as; it knows the
// limits, because what a program allows itself less than that is its own matter. Notes decide
// nothing.
//
//   if (!has_room) notes->Note(RefusedLimit::kMemory);
//   if (notes->Has(RefusedLimit::kMemory)) ...                 // at the session's end
#ifndef DUNEBOX_HOSTCALLS_SERVICES_LIMIT_NOTES_H_
#define DUNEBOX_HOSTCALLS_SERVICES_LIMIT_NOTES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "hostcalls/dispatch/caller.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

enum class RefusedLimit : std::uint8_t { kMemory, kTasks, kOpenFiles, kFileSize };
inline constexpr RefusedLimit kRefusedLimits[] = {RefusedLimit::kMemory, RefusedLimit::kTasks,
                                                  RefusedLimit::kOpenFiles,
                                                  RefusedLimit::kFileSize};
// As in JSON: "memory".
constexpr const char* ToString(RefusedLimit limit) {
  constexpr const char* kNames[] = {"memory", "processes", "open-files", "file-size"};
  return kNames[static_cast<std::size_t>(limit)];
}

class LimitNotes {
 public:
  // Those that refuse by an errno of the kernel's, as the session has them; 0: none.
  struct KernelLimits {
    std::uint64_t open_files = 0;
    std::uint64_t file_size = 0;
  };

  // A new page, of a file that the caller owns.
  static absl::StatusOr<int> CreateFile(const KernelLimits& limits);
  // Maps it. The descriptor stays the caller's.
  static absl::StatusOr<std::unique_ptr<LimitNotes>> Map(int fd);
  ~LimitNotes();
  LimitNotes(const LimitNotes&) = delete;
  LimitNotes& operator=(const LimitNotes&) = delete;

  void Note(RefusedLimit limit);
  bool Has(RefusedLimit limit) const;
  // Looks at a call's error: EMFILE and EFBIG come from a limit, maybe from the session's.
  void NoteError(Caller& caller, int error);

 private:
  struct Page {
    KernelLimits limits;
    std::atomic<std::uint32_t> refused{0};  // a bit a RefusedLimit
  };
  static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

  explicit LimitNotes(Page* page) : page_(*page) {}

  Page& page_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_LIMIT_NOTES_H_
