// Files of a sandbox in this process, opened by a confined one: the broker can reach what the
// policy lets the plugin read and nothing else, so a path that got past every check here would lead
// nowhere. It is a fork of the fork server, behind the same wall as workers (confine.h),
// and other sandboxes with the same files have it, too (shared_broker.h). It is begun with a sandbox that is made to load
// something, else when the first path comes: a clone that opens nothing has none.
//
// What comes back is checked again: a descriptor has to be of a regular file or a directory, open
// for reading alone, of a name that the policy permits, and not of procfs. In the place of a broker that is gone another
// is started; where that cannot be, the plugin gets EIO. One that does not answer is waited for until the deadline of
// the call that asks; its answer is left for nobody when it comes.
//
//   BrokeredFiles files(policy);
#ifndef DUNEBOX_SANDBOX_WORKER_BROKERED_FILES_H_
#define DUNEBOX_SANDBOX_WORKER_BROKERED_FILES_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dunebox/policy.h"
#include "hostcalls/policy/rules.h"
#include "runtime/file_descriptor.h"
#include "sandbox/plugin/files.h"
#include "sandbox/worker/broker.h"
#include "sandbox/worker/shared_broker.h"
#include "sandbox/worker/turns.h"

namespace dunebox::worker {

class BrokeredFiles final : public plugin::Files {
 public:
  explicit BrokeredFiles(const Policy& policy);
  ~BrokeredFiles() override;

  absl::Status Begin() const override;
  absl::Status Prepare() const override;
  // Opened here, with this process's rights, since the host has named it; and sent.
  hostcalls::CopyResult<plugin::OpenFile> Allow(const std::string& path) override;
  void Grant(const std::string& name, runtime::FileDescriptor file) override;
  hostcalls::CopyResult<plugin::OpenFile> Open(const std::string& path,
                                               plugin::LastLink last) const override;
  hostcalls::CopyResult<struct stat> Status(const std::string& path,
                                            plugin::LastLink last) const override;
  int Access(const std::string& path, int mode, plugin::LastLink last) const override;
  hostcalls::policy::Rules rules() const override;
  // The broker gets what it does not have of the files that the host has named when it is asked next, as they are by
  // then.
  void SetRules(hostcalls::policy::Rules rules) override;
  hostcalls::CopyResult<std::string> ReadLink(const std::string& path) const override;
  std::vector<std::string> confinement() const override;

 private:
  struct Reply {
    struct stat status {};
    std::string text;
    std::vector<runtime::FileDescriptor> files;
  };
  struct Line {
    std::shared_ptr<SharedBroker> broker;  // null: there is none
    std::uint64_t session = 0;
  };

  // One that has been begun, lives as far as is known, and has been sent what the host has named.
  absl::StatusOr<Line> Connect() const;
  // Of one that has started.
  absl::StatusOr<std::vector<std::string>> Confinement() const;
  // What Connect has to do is done.
  bool IsConnected() const;
  void Send(const std::string& name, int file) const;  // negative: it is not there
  hostcalls::CopyResult<Reply> Ask(FileRequest request, const std::string& path,
                                   plugin::LastLink last, int mode = 0) const;

  const Policy policy_;  // of which only what it lets the plugin read counts

  mutable Turns changes_;     // of the line and what was sent, by whoever has the turn
  mutable std::mutex mutex_;  // guards what follows
  mutable Line line_;
  mutable std::set<std::string> sent_;  // of the files that the host has named
  hostcalls::policy::Rules rules_;
  std::set<std::string> named_;  // by the host: in the rules beside what the policy has
};

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_BROKERED_FILES_H_
