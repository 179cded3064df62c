// The host's files as a plugin may see them: whoever gives a plugin's paths to the host's kernel.
// HostFiles does it in this process, with its rights; a broker (sandbox/worker/brokered_files.h)
// has a confined process do it.
//
// Paths are absolute and copies of the host's own. Only regular files and directories, only for
// reading. Called by any thread.
//
//   hostcalls::CopyResult<OpenFile> file = files.Open("/usr/lib/x86_64-linux-gnu/libz.so.1",
//   LastLink::kFollowed);
#ifndef DUNEBOX_SANDBOX_PLUGIN_FILES_H_
#define DUNEBOX_SANDBOX_PLUGIN_FILES_H_

#include <sys/stat.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "hostcalls/memory/guest_memory.h"
#include "hostcalls/policy/rules.h"
#include "sandbox/plugin/descriptors.h"

namespace dunebox::plugin {

enum class LastLink : bool { kKept, kFollowed };

class Files {
 public:
  Files() = default;
  virtual ~Files() = default;
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;

  // Begins whoever is to open them, so that the first who asks waits the less. kUnavailable: that cannot be.
  virtual absl::Status Begin() const { return absl::OkStatus(); }
  // The same, and waits until it is known that he can do it.
  virtual absl::Status Prepare() const { return absl::OkStatus(); }

  // One more file that may be read and executed, by whatever name it has on the host: one that the
  // host has named. Opened, or an errno.
  virtual hostcalls::CopyResult<OpenFile> Allow(const std::string& path) = 0;
  // The same, by the host's kernel's own name for it, of one that may be out of reach: this is it,
  // open for reading. All who open it have one position in it.
  virtual void Grant(const std::string& name, runtime::FileDescriptor file) = 0;

  virtual hostcalls::CopyResult<OpenFile> Open(const std::string& path, LastLink last) const = 0;
  virtual hostcalls::CopyResult<struct stat> Status(const std::string& path,
                                                    LastLink last) const = 0;
  // 0 or an errno; `mode` as of access(2).
  virtual int Access(const std::string& path, int mode, LastLink last) const = 0;
  virtual hostcalls::CopyResult<std::string> ReadLink(const std::string& path) const = 0;

  // What may be read, for a snapshot; and back, of these files or of others under the same policy.
  virtual hostcalls::policy::Rules rules() const = 0;
  virtual void SetRules(hostcalls::policy::Rules rules) = 0;

  // What does this by another process: the second wall that the kernel keeps it behind. Nothing:
  // nobody else.
  virtual std::vector<std::string> confinement() const { return {}; }
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_FILES_H_
