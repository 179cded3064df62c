// The host's files as a plugin may see them: the only place that gives a plugin's path to the host's
// kernel. A path is pinned first, and what decides is the kernel's own name of the object, so links and ".."
// make no difference, and what was checked is what is opened. Only regular files and directories, only for
// reading.
//
// Paths are absolute and copies of the host's own.
//
//   hostcalls::CopyResult<OpenFile> file = files.Open("/usr/lib/x86_64-linux-gnu/libz.so.1");
#ifndef DUNEBOX_SANDBOX_PLUGIN_HOST_FILES_H_
#define DUNEBOX_SANDBOX_PLUGIN_HOST_FILES_H_

#include <sys/stat.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "hostcalls/memory/guest_memory.h"
#include "hostcalls/policy/rules.h"
#include "runtime/loader/symbols.h"
#include "dunebox/policy.h"
#include "sandbox/plugin/descriptors.h"

namespace dunebox::plugin {

enum class LastLink : bool { kKept, kFollowed };

// What the policy lets a plugin read.
hostcalls::policy::Rules FileRulesOf(const Policy& policy);

class HostFiles {
 public:
  explicit HostFiles(const Policy& policy);

  // One more file that may be read and executed, by whatever name it has on the host.
  void Allow(const std::string& path);
  hostcalls::policy::Rules rules() const;
  void SetRules(hostcalls::policy::Rules rules);
  // The same, by the host's kernel's own name for it, of one that may be out of reach: this is it, open for
  // reading. All who open it have one position in it.
  void Grant(const std::string& name, runtime::FileDescriptor file);

  hostcalls::CopyResult<OpenFile> Open(const std::string& path, LastLink last) const;
  hostcalls::CopyResult<struct stat> Status(const std::string& path, LastLink last) const;
  // 0 or an errno; `mode` as of access(2).
  int Access(const std::string& path, int mode, LastLink last) const;
  hostcalls::CopyResult<std::string> ReadLink(const std::string& path) const;
  // The functions in a file that may be read; else none.
  std::vector<loader::Symbol> Symbols(const std::string& path) const;

 private:
  struct Pinned {
    runtime::FileDescriptor handle;
    std::string name;
    hostcalls::policy::FileRights rights;
  };
  hostcalls::CopyResult<Pinned> Pin(const std::string& path, LastLink last) const;
  runtime::FileDescriptor OpenPinned(const Pinned& pinned) const;

  mutable std::mutex mutex_;
  hostcalls::policy::Rules rules_;
  std::map<std::string, runtime::FileDescriptor> granted_;  // by name
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_HOST_FILES_H_
