#include "runtime/confinement/host_filter.h"

#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bitset>
#include <cerrno>
#include <memory>

#include "absl/strings/str_cat.h"
#include "hostcalls/check.h"
#include "hostcalls/table/table.h"
#include "runtime/file_descriptor.h"
#include "runtime/kvm/kvm_structs.h"

namespace dunebox::confinement {
namespace {

using hostcalls::Route;
using hostcalls::Row;
using hostcalls::policy::CallAction;
using hostcalls::policy::Reach;
using hostcalls::policy::Rules;

constexpr std::uint64_t kNoExecSeal = 0x8;  // MFD_NOEXEC_SEAL, Linux 6.3
constexpr std::uint64_t kCetStatus = 0x3001;  // ARCH_CET_STATUS, never in a released kernel
constexpr std::uint64_t kHarmlessPersonality =
    UNAME26 | SHORT_INODE | WHOLE_SECONDS | STICKY_TIMEOUTS;
constexpr std::uint64_t kCloneDetached = 0x00400000;  // CLONE_DETACHED: ignored by the kernel
constexpr std::uint64_t kCloneFlags =
    CSIGNAL | CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
    CLONE_VFORK | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID |
    CLONE_IO | CLONE_PIDFD | kCloneDetached;

constexpr std::uint64_t kAllBits = ~std::uint64_t{0};
constexpr std::uint64_t kIntBits = 0xffffffff;
constexpr ArgumentTest Is(std::uint8_t argument, std::uint64_t value) {
  return {argument, kIntBits, value & kIntBits};
}
constexpr ArgumentTest Exactly(std::uint8_t argument, std::uint64_t value) {
  return {argument, kAllBits, value};
}
constexpr ArgumentTest Without(std::uint8_t argument, std::uint64_t bits) {
  return {argument, bits, 0};
}
constexpr ArgumentTest With(std::uint8_t argument, std::uint64_t bits) {
  return {argument, bits, bits};
}

enum class Need : unsigned char { kAlways, kKeys, kSealedMemfds, kPlainMemfds };

bool IsMet(Need need, const FilterSubject& subject) {
  switch (need) {
    case Need::kAlways:
      return true;
    case Need::kKeys:
      return subject.protection_keys;
    case Need::kSealedMemfds:
      return subject.sealed_memfds;
    case Need::kPlainMemfds:
      return !subject.sealed_memfds;
  }
  return false;
}

using NumberSet = std::bitset<hostcalls::kSyscallTableSize>;

std::uint16_t NumberOf(std::string_view name) {
  const Row* const row = hostcalls::FindRow(name);
  DUNEBOX_CHECK(row != nullptr, "a data file names a call that THE table does not have");
  return row->number;
}

// Does the policy leave the decision about files, network and calls to nobody?
bool IsPermissive(const Rules& rules) { return rules.allow_all || rules.audit; }

bool HasPath(const Row& row) {
  return std::ranges::any_of(row.arguments, [](const hostcalls::Argument& argument) {
    return argument.kind == hostcalls::ArgumentKind::kPath;
  });
}

// Could some form of the call get past wall 1? Calls that take paths stand for one another there,
// so none of them is taken away alone.
bool MayPass(const Row& row, const Rules& rules) {
  if (IsPermissive(rules) || HasPath(row)) return true;
  for (const auto& rule : rules.calls) {
    if (rule.number != row.number) continue;
    if (rule.action == CallAction::kAllow) return true;
    if (rule.conditions.empty()) return false;
  }
  return rules.default_call_action == CallAction::kAllow;
}

class Builder {
 public:
  Builder(const FilterSubject& subject, const Rules& rules) : subject_(subject), rules_(rules) {}
  std::vector<FilterRule> Build();

 private:
  void Add(std::uint16_t number, std::string_view reason, std::vector<ArgumentTest> tests = {},
           std::uint16_t error = 0);
  void Add(std::string_view name, std::string_view reason, std::vector<ArgumentTest> tests = {},
           std::uint16_t error = 0) {
    Add(NumberOf(name), reason, std::move(tests), error);
  }
  void AddIf(Need need, std::string_view name, std::string_view reason,
             std::vector<ArgumentTest> tests = {}) {
    if (IsMet(need, subject_)) Add(name, reason, std::move(tests));
  }
  // The call is decided by its forms alone.
  void Close(std::string_view name) { closed_.set(NumberOf(name)); }
  void CallForms();
  void Requests();
  void CodeCacheForms();
  void SocketForms();
  void RuntimeCalls();
  void CallsOfTheProgram();

  const FilterSubject& subject_;
  const Rules& rules_;
  std::vector<FilterRule> result_;
  NumberSet closed_;  // calls with forms, those that are never issued, and what is added already
};

void Builder::Add(std::uint16_t number, std::string_view reason, std::vector<ArgumentTest> tests,
                  std::uint16_t error) {
  closed_.set(number);
  result_.push_back(
      {.number = number, .error = error, .tests = std::move(tests), .reason = reason});
}

void Builder::CallForms() {
#define CALL_FORM(name, need, reason, ...) \
  Close(#name);                            \
  AddIf(Need::need, #name, reason, {__VA_ARGS__});
#define CALL_ERROR(name, error, reason, ...) Add(#name, reason, {__VA_ARGS__}, error);
#define NEVER_ISSUED(name, reason) Close(#name);
#include "runtime/confinement/call_forms.inc"
#undef CALL_FORM
#undef CALL_ERROR
#undef NEVER_ISSUED
}

// Each of a number that the handlers of ioctl and prctl, or the engine, know.
void Builder::Requests() {
  const std::uint16_t ioctl = NumberOf("ioctl"), prctl = NumberOf("prctl");
  enum class IoctlKind { kNone, kValue, kIn, kOut, kInOut, kFd, kRefuse, kCloneRange, kExtentMap, kInterfaceList };
  if (subject_.kvm) {
#define KVM_REQUEST(request, reason) Add(ioctl, reason, {Is(1, request)});
#include "runtime/confinement/kvm_requests.inc"
#undef KVM_REQUEST
  }
  std::vector<std::uint32_t> refused;
#define IOCTL(number, name, kind, size)
#define NOT_UNDER_POLICY(number, name) \
  if (!IsPermissive(rules_)) refused.push_back(number);
#include "hostcalls/services/ioctls.inc"
#undef IOCTL
#undef NOT_UNDER_POLICY
  const auto is_issued = [&](std::uint32_t number, IoctlKind kind) {
    return kind != IoctlKind::kRefuse && std::ranges::find(refused, number) == refused.end();
  };
#define NOT_UNDER_POLICY(number, name)
#define IOCTL(number, name, kind, size) \
  if (is_issued(number, IoctlKind::kind)) Add(ioctl, #name, {Is(1, number)});
#include "hostcalls/services/ioctls.inc"
#undef IOCTL
#undef NOT_UNDER_POLICY
  enum class PrctlAction { kForward, kForwardOut, kGetDumpable, kSetDumpable, kGetName, kSetName, kZero, kPermission };
  const auto is_made = [](PrctlAction action) {
    return action == PrctlAction::kForward || action == PrctlAction::kForwardOut ||
           action == PrctlAction::kGetName || action == PrctlAction::kSetName;
  };
#define PRCTL(number, name, action, why) \
  if (is_made(PrctlAction::action)) Add(prctl, #name, {Is(0, number)});
#include "hostcalls/services/prctls.inc"
#undef PRCTL
}

// Each process maps its cache once, when its program starts, and again at the same place after a
// fork. The size and the flags are all that can be said of it from here: whoever controls the
// runtime already has a cache to write code to.
void Builder::CodeCacheForms() {
  if (subject_.code_cache == 0) return;
  constexpr std::uint64_t kShared = MAP_SHARED | MAP_NORESERVE;
  constexpr std::uint64_t kRuntimeHalf = std::uint64_t{1} << 46;
  const auto form = [&](ArgumentTest address, std::uint64_t flags) {
    Add("mmap", "the code cache, executable and not writable",
        {address, Exactly(1, subject_.code_cache), Exactly(2, PROT_READ | PROT_EXEC),
         Exactly(3, flags), Exactly(5, 0)});
  };
  form(Exactly(0, 0), kShared);
  form(With(0, kRuntimeHalf), kShared | MAP_FIXED);
}

void Builder::SocketForms() {
  if (IsPermissive(rules_)) return;
  Close("socket");
  Close("socketpair");
#define SOCKET_FAMILY(number, name, least_reach, reason) \
  if (rules_.network.reach >= Reach::least_reach) Add("socket", #name, {Is(0, number)});
#include "runtime/confinement/socket_families.inc"
#undef SOCKET_FAMILY
  Add("socketpair", "AF_UNIX", {Is(0, AF_UNIX)});
}

void Builder::RuntimeCalls() {
#define RUNTIME_CALL(name, need, reason) AddIf(Need::need, #name, reason);
#include "runtime/confinement/runtime_calls.inc"
#undef RUNTIME_CALL
}

void Builder::CallsOfTheProgram() {
  for (const Row& row : hostcalls::AllRows()) {
    const bool issued = row.route == Route::kForwarded || row.route == Route::kHandled;
    if (!issued || closed_[row.number] || !MayPass(row, rules_)) continue;
    Add(row.number, row.route == Route::kForwarded ? "forwarded" : "by its handler");
  }
}

std::vector<FilterRule> Builder::Build() {
  CallForms();
  Requests();
  CodeCacheForms();
  SocketForms();
  RuntimeCalls();
  CallsOfTheProgram();
  return std::move(result_);
}

// ---- libseccomp ---------------------------------------------------------------------------------

struct ReleaseContext {
  void operator()(void* context) const { seccomp_release(context); }
};
using Context = std::unique_ptr<void, ReleaseContext>;

absl::Status Failed(const char* what, int result) {
  return absl::ErrnoToStatus(-result, absl::StrCat("cannot make the system-call filter: ", what));
}

int AddRule(void* context, const FilterRule& rule) {
  std::vector<scmp_arg_cmp> comparisons;
  for (const ArgumentTest& test : rule.tests) {
    comparisons.push_back({.arg = test.argument,
                           .op = SCMP_CMP_MASKED_EQ,
                           .datum_a = test.mask,
                           .datum_b = test.value});
  }
  const std::uint32_t action = rule.error == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(rule.error);
  return seccomp_rule_add_array(context, action, rule.number,
                                static_cast<unsigned>(comparisons.size()), comparisons.data());
}

absl::StatusOr<Context> Translate(const std::vector<FilterRule>& rules) {
  Context context(seccomp_init(SCMP_ACT_KILL_PROCESS));
  if (context == nullptr) return Failed("seccomp_init", -ENOMEM);
  constexpr std::uint32_t kBinaryTree = 2;
  const struct {
    scmp_filter_attr attribute;
    std::uint32_t value;
  } attributes[] = {
      {SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS},  // 32-bit and x32 calls
      {SCMP_FLTATR_CTL_OPTIMIZE, kBinaryTree},
  };
  for (const auto& [attribute, value] : attributes) {
    const int result = seccomp_attr_set(context.get(), attribute, value);
    if (result != 0) return Failed("seccomp_attr_set", result);
  }
  for (const FilterRule& rule : rules) {
    const int result = AddRule(context.get(), rule);
    // The same form twice, of two tables.
    if (result != 0 && result != -EEXIST) {
      return Failed(hostcalls::FindRow(rule.number)->name, result);
    }
  }
  return context;
}

}  // namespace

std::vector<FilterRule> FilterRules(const FilterSubject& subject, const Rules& rules) {
  return Builder(subject, rules).Build();
}

bool HasFilters() {
  std::uint32_t action = SECCOMP_RET_KILL_PROCESS;
  return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

absl::StatusOr<std::vector<sock_filter>> CompileFilter(const std::vector<FilterRule>& rules) {
  absl::StatusOr<Context> context = Translate(rules);
  if (!context.ok()) return context.status();
  const runtime::FileDescriptor file(memfd_create("filter", MFD_CLOEXEC));
  if (const int result = seccomp_export_bpf(context->get(), file.get()); result != 0) {
    return Failed("seccomp_export_bpf", result);
  }
  const off_t size = lseek(file.get(), 0, SEEK_END);
  std::vector<sock_filter> program(static_cast<std::size_t>(size) / sizeof(sock_filter));
  if (pread(file.get(), program.data(), program.size() * sizeof(sock_filter), 0) != size) {
    return Failed("reading it back", -EIO);
  }
  return program;
}

absl::Status MakeAndLoadFilter(const std::vector<FilterRule>& rules) {
  absl::StatusOr<Context> context = Translate(rules);
  if (!context.ok()) return context.status();
  const int result = seccomp_load(context->get());
  return result == 0 ? absl::OkStatus() : Failed("seccomp_load", result);
}

}  // namespace dunebox::confinement
