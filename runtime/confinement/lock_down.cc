#include "runtime/confinement/lock_down.h"

#include <dirent.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "hostcalls/errors/message.h"
#include "runtime/confinement/host_filter.h"
#include "runtime/confinement/mechanisms.h"
#include "runtime/file_descriptor.h"
#include "runtime/text_file.h"

namespace dunebox::confinement {
namespace {

// Does the thread run in the kernel only? KVM gives a process that makes virtual machines such a one.
bool IsKernelsOwn(absl::string_view task) {
  constexpr unsigned kUserWorker = 0x4000;  // PF_USER_WORKER [linux include/linux/sched.h]
  constexpr std::size_t kFlags = 6;         // words behind the name, which may have spaces in it
  const absl::StatusOr<std::string> stat =
      runtime::ReadTextFile(absl::StrCat("/proc/self/task/", task, "/stat"));
  if (!stat.ok()) return false;
  const std::vector<std::string> words = absl::StrSplit(stat->substr(stat->rfind(')') + 2), ' ');
  unsigned flags = 0;
  return words.size() > kFlags && absl::SimpleAtoi(words[kFlags], &flags) &&
         (flags & kUserWorker) != 0;
}

// Counted: this /proc may have other numbers than this process.
absl::StatusOr<int> CountThreads() {
  const std::unique_ptr<DIR, int (*)(DIR*)> tasks(opendir("/proc/self/task"), closedir);
  if (tasks == nullptr) return absl::ErrnoToStatus(errno, "cannot read /proc/self/task");
  int threads = 0;
  while (const dirent* entry = readdir(tasks.get())) {
    if (entry->d_name[0] != '.' && !IsKernelsOwn(entry->d_name)) ++threads;
  }
  return threads;
}

// Filters and Landlock confine the calling thread only. One that is about to end is there for a moment more.
absl::Status CheckOnlyThread() {
  constexpr int kMostRounds = 200;
  constexpr absl::Duration kPause = absl::Milliseconds(1);
  absl::StatusOr<int> threads = CountThreads();
  for (int round = 0; threads.ok() && *threads != 1 && round < kMostRounds; ++round) {
    absl::SleepFor(kPause);
    threads = CountThreads();
  }
  if (!threads.ok()) return threads.status();
  if (*threads == 1) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("of ", *threads, " threads all but one would escape the confinement"));
}

bool HasSealedMemfds() {
  constexpr unsigned kNoExecSeal = 0x8;  // MFD_NOEXEC_SEAL, Linux 6.3
  return runtime::FileDescriptor(memfd_create("dunebox-seal", MFD_CLOEXEC | kNoExecSeal)).valid();
}

absl::Status Unconfined(absl::string_view what) {
  return errors::Named(errors::Id::kWouldBeUnconfined,
                       absl::InternalError(absl::StrCat(
                           "a program of a confined session would run without its confinement: ", what)));
}

// Another filter than ours may be in force as well: a container's.
bool HasOurFilter() {
  if (prctl(PR_GET_SECCOMP) != SECCOMP_MODE_FILTER) return false;
  return prctl(static_cast<int>(kMarkOption), 0, 0, 0, 0) < 0 && errno == kMarkError;
}

}  // namespace

absl::StatusOr<Confinement> LockDown(const LockDownRequest& request) {
  if (absl::Status status = CheckOnlyThread(); !status.ok()) return status;
  const int landlock = LandlockVersion();
  Confinement result{.confined = true,
                     .filtered = HasFilters(),
                     .landlocked = landlock > 0,
                     .kept = KeptCapabilities(request.plan)};
  const absl::Status absent = absl::UnavailableError("the kernel does not have it");
  for (const auto& [there, mechanism] : {std::pair(result.filtered, Mechanism::kSeccomp),
                                         std::pair(result.landlocked, Mechanism::kLandlock)}) {
    if (there) continue;
    if (absl::Status status = LeaveOut(request.plan, mechanism, absent); !status.ok()) {
      return status;
    }
  }
  const FilterSubject subject{.kvm = request.kvm,
                              .code_cache = request.code_cache,
                              .protection_keys = request.protection_keys,
                              .sealed_memfds = HasSealedMemfds()};
  if (absl::Status status = DropPrivileges(result.kept); !status.ok()) return status;
  if (result.landlocked) {
    absl::StatusOr<LandlockProbe> probe = RestrictWithLandlock(
        landlock, {.plan = request.plan,
                   .rules = request.rules,
                   .runtime_fd = request.runtime_fd,
                   .first_reserved = request.first_reserved,
                   .output_directories = request.output_directories,
                   .names_threads = request.names_threads});
    if (!probe.ok()) return probe.status();
    result.probe = *std::move(probe);
  }
  result.seals_memfds = result.filtered && subject.sealed_memfds;
  if (result.filtered) {
    if (absl::Status status = LoadFilter(FilterRules(subject, request.rules)); !status.ok()) {
      return status;
    }
  }
  return result;
}

absl::Status VerifyLockDown(const Confinement& confinement) {
  if (!confinement.confined) return absl::OkStatus();
  if (absl::Status status = ForbidDumps(); !status.ok()) return status;
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return Unconfined("no_new_privs is not set");
  if (confinement.filtered && !HasOurFilter()) {
    return Unconfined("its system calls are not filtered");
  }
  if (confinement.landlocked && !IsDenied(confinement.probe)) {
    return Unconfined(absl::StrCat(confinement.probe.path, " can be opened"));
  }
  const absl::StatusOr<Capabilities> permitted = PermittedCapabilities();
  if (!permitted.ok()) return permitted.status();
  return (*permitted & ~confinement.kept) == 0 ? absl::OkStatus()
                                               : Unconfined("it has capabilities");
}

}  // namespace dunebox::confinement
