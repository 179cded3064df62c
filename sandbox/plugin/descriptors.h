// The descriptors of one sandbox: numbers of its own for what it has opened or was given. A number
// of the host's means nothing to a plugin, and no other number answers.
//
//   const int fd = descriptors.Add(file, /*closes_on_exec=*/true);   // 3
//   if (auto file = descriptors.Find(fd)) ...
#ifndef DUNEBOX_SANDBOX_PLUGIN_DESCRIPTORS_H_
#define DUNEBOX_SANDBOX_PLUGIN_DESCRIPTORS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "dunebox/policy.h"
#include "runtime/file_descriptor.h"

namespace dunebox::plugin {

struct OpenFile {
  enum class Kind : std::uint8_t {
    kFile,    // of the host, open for reading
    kOutput,  // what is written is kept for the host, and goes to `host` besides, if there is one
    kEmpty,   // reads as an empty file
    kGranted,  // whatever the host has granted, to be read and written as it says
  };
  Kind kind = Kind::kEmpty;
  runtime::FileDescriptor host;  // kFile, kOutput, kGranted
  std::string name;              // kFile, kGranted: as the host's kernel has it; kOutput: "stdout" or "stderr"
  bool is_executable = false;    // may be mapped to be executed
  bool may_read = false, may_write = false;  // kGranted
  // kGranted: what was made of it, for whoever wants to know.
  enum Use : unsigned { kRead = 1, kWritten = 2 };
  std::shared_ptr<std::atomic<unsigned>> uses;

  void Note(Use use) const {
    if (uses != nullptr) uses->fetch_or(use, std::memory_order_relaxed);
  }
};

inline constexpr char kStdout[] = "stdout", kStderr[] = "stderr";

struct DescriptorState;

// kInvalidArgument: one of the host's descriptors that output is to go to is not open.
absl::Status CheckOutputs(const Policy& policy);

class Descriptors {
 public:
  static constexpr int kMost = 256;  // of any policy

  // With an empty stdin, and stdout and stderr that are kept, which go to the policy's descriptors besides.
  explicit Descriptors(const Policy& policy);
  // Numbers are below it.
  int most() const { return most_; }
  // The lowest free number from `least` on; -1: all are taken.
  int Add(std::shared_ptr<const OpenFile> file, bool closes_on_exec, int least = 0);
  // In place of what is there. False: no such number.
  bool Set(int fd, std::shared_ptr<const OpenFile> file, bool closes_on_exec);
  bool Close(int fd);
  // In place of a file, under all numbers that it has; null: it is closed.
  void Replace(const OpenFile* file, const std::shared_ptr<const OpenFile>& with);
  // Null: not open.
  std::shared_ptr<const OpenFile> Find(int fd) const;
  bool ClosesOnExec(int fd) const;
  void SetClosesOnExec(int fd, bool closes);

  // What is open, and where each file is read.
  std::vector<DescriptorState> Save() const;
  // The same again, in place of what is open; or what Reopen has opened in place of it. kFailedPrecondition: more than
  // the policy allows.
  absl::Status Restore(const std::vector<DescriptorState>& saved);
  // The same files in descriptors of their own, which nobody else reads from. kFailedPrecondition: the
  // application has closed one, or cannot have more; or there are more than may be.
  absl::Status Reopen(const std::vector<DescriptorState>& saved);

 private:
  struct Entry {
    std::shared_ptr<const OpenFile> file;
    bool closes_on_exec = false;
  };
  bool IsNumber(int fd) const { return fd >= 0 && fd < most_; }

  const int most_;
  mutable std::mutex mutex_;
  std::array<Entry, kMost> entries_;
  // By what was saved, which may be gone.
  std::map<std::weak_ptr<const OpenFile>, std::shared_ptr<const OpenFile>, std::owner_less<>>
      reopened_;
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_DESCRIPTORS_H_
