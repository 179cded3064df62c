// `dunebox prepare`: which blocks the guest's code had, as jit::AppendGuestCode has them, whatever
// process they were translated in. One write for each: processes have the file in common.
#ifndef DUNEBOX_RUNTIME_JIT_GUEST_CODE_WRITER_H_
#define DUNEBOX_RUNTIME_JIT_GUEST_CODE_WRITER_H_

#include <string>

#include "hostcalls/trace/write_line.h"
#include "jit-fallback/cache/new_code.h"

namespace dunebox::runtime {

class GuestCodeWriter {
 public:
  // Both stay open. What is written to `fd` is appended.
  GuestCodeWriter(int fd, int report_fd) : file_(fd, report_fd, "the code to prepare") {}

  // Called by one thread at a time.
  void Add(const jit::NewCode& code);

 private:
  // A program that makes code all the time fills no memory: what comes later is not what programs begin with.
  static constexpr unsigned kMostBlocks = 1 << 18;

  hostcalls::UserFile file_;
  unsigned left_ = kMostBlocks;
  std::string record_;
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_GUEST_CODE_WRITER_H_
