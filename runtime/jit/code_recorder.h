// --jit-record: every block and exit stub, as it is added to the code cache, in the format of
// jit-fallback/cache/code_record.h. A piece of code is in the file before it can run, so that the
// record of a process is whole however it ends. When one cannot be written, that is said, and the record ends with those before it.
//
// Each process has its own file, begun when its program starts or when it is forked.
#ifndef DUNEBOX_RUNTIME_JIT_CODE_RECORDER_H_
#define DUNEBOX_RUNTIME_JIT_CODE_RECORDER_H_

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "hostcalls/services/limits.h"
#include "jit-fallback/cache/code_record.h"
#include "jit-fallback/cache/new_code.h"

namespace dunebox::runtime {

class CodeRecorder {
 public:
  // Makes a new file in the directory. `limits` outlives this; `directory`, and standard error in `report_fd`, stay open.
  static absl::StatusOr<std::unique_ptr<CodeRecorder>> Create(hostcalls::VirtualLimits& limits,
                                                              int directory, int report_fd);

  // What all code has in common. Before the first Add.
  void Describe(const jit::EmitterOptions& options);
  // Called by one thread at a time.
  void Add(const jit::NewCode& code);
  // In a forked child: a file of its own. One that cannot have any (it has given up its rights,
  // say) goes on in its parent's.
  void ContinueAfterFork();

 private:
  CodeRecorder(hostcalls::ReservedFd file, hostcalls::VirtualLimits& limits, int directory, int report_fd)
      : limits_(limits), directory_(directory), report_fd_(report_fd), file_(std::move(file)) {}

  hostcalls::VirtualLimits& limits_;
  const int directory_, report_fd_;
  hostcalls::ReservedFd file_;  // not valid: there was no room for more
  record::Isolation isolation_ = record::Isolation::kNone;
  bool check_by_loop_ = false;
  std::vector<char> buffer_;  // the record that is being made
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_CODE_RECORDER_H_
