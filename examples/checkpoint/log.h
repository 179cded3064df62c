// Checkpoints of an arena in one file: each record holds the pages that were written to since the one before, so that all
// of them together, in order, are the arena at the time of the last. A record that was not written whole, or whose bytes
// have changed, ends the log: what it belonged to never happened.
//
//   absl::StatusOr<CheckpointLog> log = CheckpointLog::Open(path);
//   absl::StatusOr<int> restored = log->Restore(arena);          // how many records; 0: a new one
//   absl::Status saved = log->Append(written, copy);             // copy(to, page)
#ifndef DUNEBOX_EXAMPLES_CHECKPOINT_LOG_H_
#define DUNEBOX_EXAMPLES_CHECKPOINT_LOG_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dune/page_table.h"

namespace checkpoint {

class CheckpointLog {
 public:
  // Makes the file where there is none. kFailedPrecondition: it is another program's.
  static absl::StatusOr<CheckpointLog> Open(const std::string& path);
  CheckpointLog(CheckpointLog&& other) noexcept;
  CheckpointLog& operator=(CheckpointLog&&) = delete;
  ~CheckpointLog();

  // Into `arena`, which is zero and not tracked yet. What follows the last whole record is cut off.
  absl::StatusOr<int> Restore(dune::Range arena);
  // A record of the pages of `written`, each as `copy` gives it. It is on the disk when this returns.
  using CopyPage = absl::FunctionRef<absl::Status(void* to, std::uintptr_t page)>;
  absl::Status Append(std::span<const dune::Range> written, CopyPage copy);

 private:
  explicit CheckpointLog(int file) : file_(file) {}

  int file_ = -1;
};

}  // namespace checkpoint

#endif  // DUNEBOX_EXAMPLES_CHECKPOINT_LOG_H_
