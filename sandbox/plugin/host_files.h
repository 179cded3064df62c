// Files by this process: the only place that gives a plugin's path to the host's kernel. A path is
// pinned first, and what decides is the kernel's own name of the object, so links and ".." make no
// difference, and what was checked is what is opened.
//
//   HostFiles files(policy);
#ifndef DUNEBOX_SANDBOX_PLUGIN_HOST_FILES_H_
#define DUNEBOX_SANDBOX_PLUGIN_HOST_FILES_H_

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "dunebox/policy.h"
#include "hostcalls/policy/rules.h"
#include "sandbox/plugin/files.h"

namespace dunebox::plugin {

// What the policy lets a plugin read.
hostcalls::policy::Rules FileRulesOf(const Policy& policy);
// One more of them, of a file.
void AddRule(hostcalls::policy::Rules& rules, const std::string& path,
             hostcalls::policy::FileRights allowed);

// Whether it is of procfs, which shows the processes of the host, and in mem the memory of all of them: whatever a policy
// names, that is not for a plugin.
bool IsOfProcesses(int fd);

// The host's kernel's name for what a descriptor holds.
hostcalls::CopyResult<std::string> NameOf(int fd);

// A regular file that the host has named, opened with the rights of this process. Nothing: there is
// none.
struct NamedFile {
  std::string name;
  runtime::FileDescriptor file;
};
std::optional<NamedFile> OpenForHost(const std::string& path);

class HostFiles final : public Files {
 public:
  explicit HostFiles(const Policy& policy);

  hostcalls::CopyResult<OpenFile> Allow(const std::string& path) override;
  void Grant(const std::string& name, runtime::FileDescriptor file) override;
  hostcalls::CopyResult<OpenFile> Open(const std::string& path, LastLink last) const override;
  hostcalls::CopyResult<struct stat> Status(const std::string& path, LastLink last) const override;
  int Access(const std::string& path, int mode, LastLink last) const override;
  hostcalls::CopyResult<std::string> ReadLink(const std::string& path) const override;
  hostcalls::policy::Rules rules() const override;
  void SetRules(hostcalls::policy::Rules rules) override;

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
