#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <span>

#include "runtime/confinement/host_filter.h"
#include "runtime/confinement/prebuilt_filters.h"

namespace dunebox::confinement {
namespace {

absl::Status Load(std::span<const sock_filter> code) {
  const sock_fprog program{.len = static_cast<unsigned short>(code.size()),
                           .filter = const_cast<sock_filter*>(code.data())};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
    return absl::ErrnoToStatus(errno, "cannot load the system-call filter");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status LoadFilter(const std::vector<FilterRule>& rules) {
  if (const std::span<const sock_filter> prebuilt = FindPrebuilt(rules); !prebuilt.empty()) {
    return Load(prebuilt);
  }
  return MakeAndLoadFilter(rules);
}

}  // namespace dunebox::confinement
