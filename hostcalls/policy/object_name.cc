#include "hostcalls/policy/object_name.h"

namespace dunebox::hostcalls::policy {
namespace {

constexpr std::string_view kProcesses = "/proc/";
constexpr std::string_view kTerminals = "/dev/pts/";

bool IsOfProcess(std::string_view path) {
  return path.starts_with(kProcesses) && path.size() > kProcesses.size() &&
         path[kProcesses.size()] >= '0' && path[kProcesses.size()] <= '9';
}

}  // namespace

NameKind KindOf(std::string_view name) {
  if (!name.starts_with('/') || name.ends_with(kGone)) return NameKind::kNoPath;
  if (IsOfProcess(name)) return NameKind::kOfProcess;
  return name.starts_with(kTerminals) ? NameKind::kTerminal : NameKind::kFile;
}

}  // namespace dunebox::hostcalls::policy
