#include "sandbox/worker/confine.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <malloc.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "hostcalls/check.h"
#include "hostcalls/table/table.h"
#include "runtime/confinement/capabilities.h"
#include "runtime/confinement/host_filter.h"
#include "runtime/confinement/landlock.h"
#include "runtime/kvm/kvm_structs.h"
#include "runtime/memory/pagemap_abi.h"
#include "runtime/memory/written_pages.h"
#include "runtime/text_file.h"
#include "sandbox/plugin/descriptors.h"
#include "sandbox/plugin/host_files.h"
#include "sandbox/worker/protocol.h"

namespace dunebox::worker {
namespace {

using confinement::ArgumentTest;
using confinement::FilterRule;

// ---- system calls -------------------------------------------------------------------------------

constexpr std::uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD;
constexpr std::uint64_t kThreadMayHave = kThreadFlags | CLONE_FILES | CLONE_SYSVSEM | CLONE_SETTLS |
                                         CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_VFORK;
constexpr std::uint64_t kOpenForChange =
    O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY);

constexpr ArgumentTest Is(std::uint8_t argument, std::uint64_t value) {
  return {argument, 0xffff'ffff, value & 0xffff'ffff};
}
constexpr ArgumentTest Without(std::uint8_t argument, std::uint64_t bits) {
  return {argument, bits, 0};
}
constexpr ArgumentTest With(std::uint8_t argument, std::uint64_t bits, std::uint64_t allowed) {
  return {argument, bits | ~allowed, bits};
}

void Add(std::vector<FilterRule>& rules, std::string_view name, std::string_view reason,
         std::vector<ArgumentTest> tests, std::uint16_t error = 0) {
  const hostcalls::Row* const row = hostcalls::FindRow(name);
  DUNEBOX_CHECK(row != nullptr, "worker_calls.inc names a call that THE table does not have");
  rules.push_back(
      {.number = row->number, .error = error, .tests = std::move(tests), .reason = reason});
}

// A machine has been made; there is to be no other.
void AddMachinesCalls(std::vector<FilterRule>& rules) {
#define KVM_REQUEST(request, reason) \
  if (request != KVM_CREATE_VM) Add(rules, "ioctl", reason, {Is(1, request)});
#include "runtime/confinement/kvm_requests.inc"
#undef KVM_REQUEST
}

std::vector<FilterRule> RulesOf(Role role, const Policy& policy) {
  std::vector<FilterRule> rules;
#define WORKER_CALL(name, reason) Add(rules, #name, reason, {});
#define WORKER_FORM(name, reason, ...) Add(rules, #name, reason, {__VA_ARGS__});
#define WORKER_ERROR(name, error, reason) Add(rules, #name, reason, {}, error);
  switch (role) {
    case Role::kWorker:
#include "sandbox/worker/worker_calls.inc"
      Add(rules, "tgkill", "signals to itself", {Is(0, static_cast<std::uint64_t>(getpid()))});
      if (policy.engine == Engine::kKvm) AddMachinesCalls(rules);
      break;
    case Role::kBroker:
#include "sandbox/worker/broker_calls.inc"
      break;
  }
#undef WORKER_CALL
#undef WORKER_FORM
#undef WORKER_ERROR
  return rules;
}

// ---- limits -------------------------------------------------------------------------------------

constexpr rlim_t kMiB = rlim_t{1} << 20;

// Bytes of addresses that this process has, and those of them that the kernel counts as data.
struct InUse {
  rlim_t addresses = 0, data = 0;
  static InUse Now() {
    constexpr std::size_t kAddresses = 0, kData = 5;  // proc(5), statm
    const absl::StatusOr<std::string> text = runtime::ReadTextFile("/proc/self/statm");
    const std::vector<std::string> fields = absl::StrSplit(text.value_or(""), ' ');
    const auto bytes = [&](std::size_t field) {
      rlim_t pages = 0;
      if (field >= fields.size() || !absl::SimpleAtoi(fields[field], &pages)) return rlim_t{0};
      return pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
    };
    return {.addresses = bytes(kAddresses), .data = bytes(kData)};
  }
};

absl::Status Limit(int resource, rlim_t most) {
  rlimit limit{};
  getrlimit(static_cast<__rlimit_resource>(resource), &limit);
  limit.rlim_max = std::min(limit.rlim_max, most);
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0
             ? absl::OkStatus()
             : absl::ErrnoToStatus(errno, "cannot limit the worker");
}

absl::Status SetLimits(Role role, const Policy& policy, bool has_own_users) {
  constexpr rlim_t kMostThreads = 4096;
  // A host thread each, the watchdog, the first one.
  const rlim_t threads =
      std::min<rlim_t>(rlim_t{policy.host_threads} + policy.plugin_threads, kMostThreads) + 8;
  constexpr rlim_t kOfThread = 10 * kMiB;  // stacks and tables
  constexpr rlim_t kOurs = 256 * kMiB;
  constexpr rlim_t kMostBrokered = 65'536;    // files that the host has named, of all sandboxes
  constexpr rlim_t kImage = rlim_t{4} << 30;  // as large as the window, and mapped beside it
  const rlim_t memory = std::min<rlim_t>(policy.memory_limit, rlim_t{4} << 30);
  // The window is in use already, the memory that is shared, a snapshot and the next one are not. What can be written
  // to is counted as data.
  const InUse used = InUse::Now();
  const rlim_t addresses = used.addresses + memory + 2 * kImage + threads * kOfThread + kOurs;
  const std::pair<int, rlim_t> limits[] = {
      {RLIMIT_AS, addresses},
      {RLIMIT_DATA, used.data + memory + policy.code_cache + threads * kOfThread + kOurs},
      {RLIMIT_NOFILE, role == Role::kWorker ? plugin::Descriptors::kMost + 64 : kMostBrokered},
      {RLIMIT_FSIZE, role == Role::kWorker ? kImage : 0},
      {RLIMIT_CORE, 0},
      {RLIMIT_MEMLOCK, 0},
      {RLIMIT_MSGQUEUE, 0},
      // Counted by user: in a namespace of its own it counts this worker's alone.
      {RLIMIT_NPROC, has_own_users ? threads : RLIM_INFINITY},
  };
  for (const auto& [resource, most] : limits) {
    if (absl::Status status = Limit(resource, most); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// ---- namespaces ---------------------------------------------------------------------------------

struct NamespaceRow {
  int flag;
  const char* name;
};
constexpr NamespaceRow kNamespaces[] = {
    {CLONE_NEWUSER, "user namespace"},   {CLONE_NEWPID, "pid namespace"},
    {CLONE_NEWNET, "network namespace"}, {CLONE_NEWIPC, "ipc namespace"},
    {CLONE_NEWUTS, "uts namespace"},
};

absl::Status Missing(absl::string_view what) {
  return absl::UnavailableError(
      absl::StrCat("a process is to be confined, and this machine's kernel has no ", what));
}

// A worker that cannot has no snapshots, which say so.
void LookAtWrittenPages(Role role) {
  if (role == Role::kWorker) (void)memory::PrepareForEachWritten();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> Confine(Role role, const Policy& policy, int namespaces) {
  const int landlock = confinement::LandlockVersion();
  if (landlock == 0) return Missing("Landlock");
  if (!confinement::HasFilters()) return Missing("seccomp filters");
  // The heap takes no more addresses for each thread.
  mallopt(M_ARENA_MAX, 2);
  const bool has_own_users = (namespaces & CLONE_NEWUSER) != 0;
  absl::Status status = SetLimits(role, policy, has_own_users);
  // Who it is opened by decides what it shows: root of the machine's would see where pages lie in memory. Nobody
  // else can open it any more when it cannot be traced.
  const bool is_root = !has_own_users && geteuid() == 0;
  if (status.ok() && !is_root) LookAtWrittenPages(role);
  if (status.ok()) status = confinement::DropPrivileges(0);
  if (status.ok() && is_root) LookAtWrittenPages(role);
  if (!status.ok()) return status;
  const confinement::Plan plan{.confine = true};
  const absl::StatusOr<confinement::LandlockProbe> probe = confinement::RestrictWithLandlock(
      landlock, {.plan = plan, .rules = plugin::FileRulesOf(policy), .looks_at_processes = false});
  if (!probe.ok()) return probe.status();
  if (!confinement::IsDenied(*probe)) {
    return absl::UnavailableError("a process is to be confined, and Landlock is without effect");
  }
  status = confinement::LoadFilter(RulesOf(role, policy));
  if (!status.ok()) return status;
  std::vector<std::string> names = {"seccomp", absl::StrCat("landlock ", landlock)};
  for (const NamespaceRow& row : kNamespaces) {
    if ((namespaces & row.flag) != 0) names.emplace_back(row.name);
  }
  return names;
}

}  // namespace dunebox::worker
