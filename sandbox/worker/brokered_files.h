// Files of a sandbox in this process, opened by a confined one: the broker can reach what the
// policy lets the plugin read and nothing else, so a path that got past every check here would lead
// nowhere. It is a process of the executable that workers are, behind the same wall (confine.h),
// one for each sandbox.
//
// What comes back is checked again: a descriptor has to be of a regular file or a directory, open
// for reading alone, of a name that the policy permits, and not of procfs. A broker that is gone is
// EIO to the plugin. One that does not answer is waited for until the deadline of the call that asks;
// its answer is left for nobody when it comes.
//
//   absl::StatusOr<std::unique_ptr<plugin::Files>> files = BrokeredFiles::Create(policy);
#ifndef DUNEBOX_SANDBOX_WORKER_BROKERED_FILES_H_
#define DUNEBOX_SANDBOX_WORKER_BROKERED_FILES_H_

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dunebox/policy.h"
#include "hostcalls/policy/rules.h"
#include "runtime/file_descriptor.h"
#include "sandbox/plugin/files.h"
#include "sandbox/worker/broker.h"
#include "sandbox/worker/fork_server.h"

namespace dunebox::worker {

class BrokeredFiles final : public plugin::Files {
 public:
  // kUnavailable: this machine cannot confine a process so, or not start one.
  static absl::StatusOr<std::unique_ptr<plugin::Files>> Create(const Policy& policy);
  ~BrokeredFiles() override;

  // Opened here, with this process's rights, since the host has named it; and sent.
  void Allow(const std::string& path) override;
  void Grant(const std::string& name, runtime::FileDescriptor file) override;
  hostcalls::CopyResult<plugin::OpenFile> Open(const std::string& path,
                                               plugin::LastLink last) const override;
  hostcalls::CopyResult<struct stat> Status(const std::string& path,
                                            plugin::LastLink last) const override;
  int Access(const std::string& path, int mode, plugin::LastLink last) const override;
  hostcalls::policy::Rules rules() const override;
  // The broker gets what it does not have of the files that the host has named, as they are by now. What it was
  // sent and is in no rule is not opened any more, though it may still say that it is there.
  void SetRules(hostcalls::policy::Rules rules) override;
  hostcalls::CopyResult<std::string> ReadLink(const std::string& path) const override;
  std::vector<std::string> confinement() const override { return confinement_; }

 private:
  struct Reply {
    struct stat status {};
    std::string text;
    std::vector<runtime::FileDescriptor> files;
  };

  explicit BrokeredFiles(const Policy& policy);
  absl::Status Start(const Policy& policy);
  // One question and its answer, with what comes along. Nothing: there is none, or nobody waits for it any more.
  std::optional<std::string> Converse(const std::string& question, int fd,
                                      std::vector<runtime::FileDescriptor>& files) const;
  hostcalls::CopyResult<Reply> Ask(FileRequest request, const std::string& path,
                                   plugin::LastLink last, int mode = 0, int fd = -1) const;

  std::shared_ptr<ForkServer> server_;
  runtime::FileDescriptor socket_;
  pid_t pid_ = 0;
  std::vector<std::string> confinement_;

  mutable std::timed_mutex conversation_;  // held for a question and its answer; guards what follows
  mutable bool is_owed_ = false;           // the last question's answer has not come yet

  mutable std::mutex mutex_;  // guards what follows
  hostcalls::policy::Rules rules_;
};

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_BROKERED_FILES_H_
