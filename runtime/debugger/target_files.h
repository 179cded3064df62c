// The program's files for gdb (vFile packets), read only: those that the session's policy lets the
// program read, and of /proc what the program would read of itself. Whatever would change a file is
// refused. A file is opened anew for each piece, with descriptors of its own, so that no number of
// the program's is ever used up and no lock of its is lost.
//
//   TargetFiles files(process);
//   std::string reply = files.Answer("open:2f6574632f6d6f7464,0,0");   // "F1"
#ifndef DUNEBOX_RUNTIME_DEBUGGER_TARGET_FILES_H_
#define DUNEBOX_RUNTIME_DEBUGGER_TARGET_FILES_H_

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/process/process.h"

namespace dunebox::debugger {

class TargetFiles {
 public:
  explicit TargetFiles(const process::Process& owner) : owner_(owner) {}
  // What follows "vFile:" in a packet. Empty: an operation that is not known here.
  std::string Answer(std::string_view request);

 private:
  std::string Open(std::string_view arguments);
  std::string Close(std::string_view arguments);
  std::string Read(std::string_view arguments);
  std::string Status(std::string_view arguments);
  std::string ReadLink(std::string_view arguments) const;
  // What the program itself would see at the path, when that is not what the kernel has there.
  std::optional<std::string> OwnText(const std::string& path) const;
  int MayRead(int fd) const;

  struct File {
    std::string path;
    std::optional<std::string> text;  // in place of a file
  };
  const process::Process& owner_;
  std::map<std::uint64_t, File> open_;
  std::uint64_t last_ = 0;
};

// gdb's struct stat: big-endian, 64 bytes.
std::string PackStatus(const struct stat& status);

}  // namespace dunebox::debugger

#endif  // DUNEBOX_RUNTIME_DEBUGGER_TARGET_FILES_H_
