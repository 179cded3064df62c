#include "hostcalls/check.h"

#include <stdio.h>
#include <unistd.h>

#include "hostcalls/errors/id.h"

namespace dunebox {

void CheckFailed(const char* condition, const char* message, const char* file, int line) {
  char text[512];
  const int length = snprintf(text, sizeof(text), "dunebox: internal error: %s (%s) at %s:%d [%s]\n",
                              message, condition, file, line,
                              errors::CodeOf(errors::Id::kInternal).data());
  if (length > 0) {
    const auto bytes = static_cast<size_t>(length) < sizeof(text) ? static_cast<size_t>(length)
                                                                  : sizeof(text) - 1;
    [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, text, bytes);
  }
  _exit(125);  // kExitRuntimeError: an abort would look like the guest's own SIGABRT
}

}  // namespace dunebox
