// Takes checkpoints of an arena whose computation stands still while Take runs. Where the process can be cloned copy-on-write
// that is all the time it takes: a thread writes the record out of the clone while the computation goes on. Otherwise the
// record is written there and then.
//
//   Checkpointer checkpointer(log, arena, Checkpointer::By::kClone);
//   absl::Status taken = checkpointer.Take();
//   absl::Status all = checkpointer.Finish();   // they are on the disk
#ifndef DUNEBOX_EXAMPLES_CHECKPOINT_CHECKPOINTER_H_
#define DUNEBOX_EXAMPLES_CHECKPOINT_CHECKPOINTER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "dune/page_table.h"
#include "examples/checkpoint/log.h"

namespace checkpoint {

class Checkpointer {
 public:
  enum class By : std::uint8_t { kStandingStill, kClone };

  // The arena's pages are tracked. `log` outlives it.
  Checkpointer(CheckpointLog& log, dune::Range arena, By by) : log_(log), arena_(arena), by_(by) {}
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;
  ~Checkpointer() { Finish().IgnoreError(); }

  // Of the pages that were written to since the last one, which is on the disk first.
  absl::Status Take();
  absl::Status Finish();
  // Of all that were taken.
  std::size_t pages() const { return pages_; }

 private:
  CheckpointLog& log_;
  const dune::Range arena_;
  const By by_;
  std::size_t pages_ = 0;
  // Of the record that is being written.
  std::vector<dune::Range> written_;
  std::optional<dune::PageTable> clone_;
  std::thread writer_;
  absl::Status saved_;
};

}  // namespace checkpoint

#endif  // DUNEBOX_EXAMPLES_CHECKPOINT_CHECKPOINTER_H_
