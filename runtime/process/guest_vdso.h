// The vDSO as the guest sees it: a copy of the host's code in the user half, and, right below it
// as on the host, the host's live clock data (vvar), which the engine shows read-only. Where the
// engine cannot show it, the functions that read it are system calls.
//
// An engine that answers calls in ring 0 gets the function that reads them, too (clock_code.h).
//
// The ranges are sealed: the guest cannot unmap or change them. Without a vDSO (or in a layout we
// do not know) there is none, and programs make system calls instead.
#ifndef DUNEBOX_RUNTIME_PROCESS_GUEST_VDSO_H_
#define DUNEBOX_RUNTIME_PROCESS_GUEST_VDSO_H_

#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "runtime/process/machine.h"

namespace dunebox::process {

// Host addresses [data, code) and [code, end); adjacent.
struct HostVdso {
  std::uint64_t data = 0;
  std::uint64_t code = 0;
  std::uint64_t end = 0;
};

// Finds [vvar], [vvar_vclock] and [vdso] in the text of /proc/self/maps. Pure.
std::optional<HostVdso> FindHostVdso(std::string_view maps);

// Maps it for the guest and returns where the code is (AT_SYSINFO_EHDR); 0 without a vDSO.
absl::StatusOr<GuestVirt> MapGuestVdso(Machine& machine);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_GUEST_VDSO_H_
