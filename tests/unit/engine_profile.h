// A seccomp profile in the form and with the contents that container engines give their programs,
// built from what their documentation says: which calls are blocked, which come back with a
// capability, which arguments of clone, personality and socket are allowed.
//
//   absl::StatusOr<CallRules> rules = ImportOciSeccomp(EngineProfile(), "engine.json", context);
#ifndef DUNEBOX_TESTS_UNIT_ENGINE_PROFILE_H_
#define DUNEBOX_TESTS_UNIT_ENGINE_PROFILE_H_

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "hostcalls/table/table.h"

namespace dunebox {

// Not for a program without capabilities.
inline constexpr std::string_view kBlockedByEngines[] = {"acct",
                                                         "add_key",
                                                         "bpf",
                                                         "clock_adjtime",
                                                         "clock_settime",
                                                         "create_module",
                                                         "delete_module",
                                                         "finit_module",
                                                         "fsconfig",
                                                         "fsmount",
                                                         "fsopen",
                                                         "fspick",
                                                         "get_kernel_syms",
                                                         "get_mempolicy",
                                                         "init_module",
                                                         "ioperm",
                                                         "iopl",
                                                         "kcmp",
                                                         "kexec_file_load",
                                                         "kexec_load",
                                                         "keyctl",
                                                         "lookup_dcookie",
                                                         "mbind",
                                                         "mount",
                                                         "mount_setattr",
                                                         "move_mount",
                                                         "move_pages",
                                                         "nfsservctl",
                                                         "open_by_handle_at",
                                                         "open_tree",
                                                         "perf_event_open",
                                                         "pidfd_getfd",
                                                         "pivot_root",
                                                         "process_madvise",
                                                         "query_module",
                                                         "quotactl",
                                                         "reboot",
                                                         "request_key",
                                                         "set_mempolicy",
                                                         "setns",
                                                         "settimeofday",
                                                         "swapon",
                                                         "swapoff",
                                                         "sysfs",
                                                         "_sysctl",
                                                         "umount2",
                                                         "unshare",
                                                         "uselib",
                                                         "userfaultfd",
                                                         "ustat",
                                                         "vhangup",
                                                         "syslog",
                                                         "chroot",
                                                         "fanotify_init"};

// Of other machines; engines list them beside ours.
inline constexpr std::string_view kCallsElsewhere[] = {
    "_llseek",      "_newselect", "chown32", "clock_gettime64", "fcntl64",   "fstat64",
    "futex_time64", "getuid32",   "ipc",     "mmap2",           "sigreturn", "socketcall",
    "ugetrlimit",   "waitpid"};

inline std::string EngineProfile() {
  using nlohmann::json;
  const auto entry = [](json names, const char* action) {
    return json{{"names", std::move(names)}, {"action", action}};
  };
  const auto with = [&](json names, json includes, json excludes = json::object()) {
    json object = entry(std::move(names), "SCMP_ACT_ALLOW");
    object["includes"] = std::move(includes);
    object["excludes"] = std::move(excludes);
    return object;
  };
  const auto compare = [&](const char* name, int index, std::uint64_t value,
                           std::uint64_t value_two, const char* op) {
    json object = entry({name}, "SCMP_ACT_ALLOW");
    object["args"] = {{{"index", index}, {"value", value}, {"valueTwo", value_two}, {"op", op}}};
    return object;
  };
  constexpr std::string_view kApart[] = {
      "clone",     "clone3",           "personality", "socket",
      "ptrace",    "process_vm_readv", "arch_prctl",  "process_vm_writev",
      "modify_ldt"};

  json plain = json::array();
  for (const hostcalls::Row& row : hostcalls::AllRows()) {
    const auto is_in = [&](const auto& list) {
      return std::ranges::find(list, std::string_view(row.name)) != std::end(list);
    };
    if (!is_in(kBlockedByEngines) && !is_in(kApart)) plain.push_back(row.name);
  }
  for (const std::string_view name : kCallsElsewhere) plain.push_back(name);

  json calls = json::array({entry(std::move(plain), "SCMP_ACT_ALLOW")});
  calls.push_back(
      with({"process_vm_readv", "process_vm_writev", "ptrace"}, {{"minKernel", "4.8"}}));
  calls.push_back(compare("socket", 0, 40, 0, "SCMP_CMP_NE"));
  for (const std::uint64_t value : {0x0ull, 0x8ull, 0x20000ull, 0x20008ull, 0xffffffffull}) {
    calls.push_back(compare("personality", 0, value, 0, "SCMP_CMP_EQ"));
  }
  calls.push_back(with({"sync_file_range2", "swapcontext"}, {{"arches", {"ppc64le"}}}));
  calls.push_back(with({"arch_prctl"}, {{"arches", {"amd64", "x32"}}}));
  calls.push_back(with({"modify_ldt"}, {{"arches", {"amd64", "x32", "x86"}}}));
  calls.push_back(with({"open_by_handle_at"}, {{"caps", {"CAP_DAC_READ_SEARCH"}}}));
  calls.push_back(with({"bpf", "clone", "clone3", "mount", "setns", "umount2", "unshare"},
                       {{"caps", {"CAP_SYS_ADMIN"}}}));
  json clone = compare("clone", 0, 2114060288, 0, "SCMP_CMP_MASKED_EQ");
  clone["excludes"] = {{"caps", {"CAP_SYS_ADMIN"}}, {"arches", {"s390", "s390x"}}};
  calls.push_back(std::move(clone));
  clone = compare("clone", 1, 2114060288, 0, "SCMP_CMP_MASKED_EQ");
  clone["comment"] = "there the flags are the second argument";
  clone["includes"] = {{"arches", {"s390", "s390x"}}};
  calls.push_back(std::move(clone));
  json clone3 = entry({"clone3"}, "SCMP_ACT_ERRNO");
  clone3["errnoRet"] = 38;
  clone3["excludes"] = {{"caps", {"CAP_SYS_ADMIN"}}};
  calls.push_back(std::move(clone3));
  calls.push_back(with({"chroot"}, {{"caps", {"CAP_SYS_CHROOT"}}}));
  calls.push_back(with({"syslog"}, {{"caps", {"CAP_SYSLOG"}}}));

  const json profile = {
      {"defaultAction", "SCMP_ACT_ERRNO"},
      {"defaultErrnoRet", 1},
      {"archMap",
       {{{"architecture", "SCMP_ARCH_X86_64"},
         {"subArchitectures", {"SCMP_ARCH_X86", "SCMP_ARCH_X32"}}},
        {{"architecture", "SCMP_ARCH_AARCH64"}, {"subArchitectures", {"SCMP_ARCH_ARM"}}}}},
      {"syscalls", std::move(calls)}};
  return profile.dump(1);
}

}  // namespace dunebox

#endif  // DUNEBOX_TESTS_UNIT_ENGINE_PROFILE_H_
