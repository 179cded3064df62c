// Where prepared translations are (jit-fallback/cache/prepared_blocks.h): a directory with a file
// for each isolation, made by `dunebox prepare`. Who can write there can execute code outside of
// every sandbox, so it is opened only if that is nobody but root and the caller.
//
//   const PreparedFiles files(directory);     // before any namespace is entered
//   const absl::StatusOr<FileDescriptor>& file = files.For(isolation);
#ifndef DUNEBOX_RUNTIME_JIT_PREPARED_FILE_H_
#define DUNEBOX_RUNTIME_JIT_PREPARED_FILE_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "jit-fallback/cache/prepared_blocks.h"
#include "jit-fallback/emit/isolation.h"
#include "runtime/file_descriptor.h"

namespace dunebox::runtime {

// Looked for without being asked to; what is there is root's.
inline constexpr const char* kPreparedDirectory = "/var/cache/dunebox";
// In the place of a directory: none.
inline constexpr const char* kNothingPrepared = "none";

// "mask.blocks"
std::string PreparedName(jit::Isolation isolation);

// Whether the open directory or file is changed by nobody but root and, with `or_callers`, the
// caller: kPermissionDenied says why not.
absl::Status CheckOwner(int fd, bool or_callers);

// The files of all isolations, for who finds out later which one is needed and cannot see any more whose they are: in a
// user namespace root's files belong to nobody.
class PreparedFiles {
 public:
  // kNothingPrepared: there are none.
  explicit PreparedFiles(const std::string& directory);
  // kNotFound: there is none. Messages name the file.
  const absl::StatusOr<FileDescriptor>& For(jit::Isolation isolation) const;
  // The same, and whether it is for translators of this process.
  absl::Status CheckFits(jit::Isolation isolation) const;

 private:
  const std::string directory_;
  std::map<jit::Isolation, absl::StatusOr<FileDescriptor>> files_;
};

// One of them, mapped, and fit for translators of this process. Thread-safe.
absl::StatusOr<std::shared_ptr<const jit::PreparedBlocks>> MapPrepared(
    const std::string& directory, jit::Isolation isolation);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_PREPARED_FILE_H_
