#include "hostcalls/memory/protection_keys.h"

#include <cpuid.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "hostcalls/host_cpuid.h"

// Read by assembly: whether PKRU has to be set on the way into the runtime.
unsigned char dunebox_keys_in_use = 0;

namespace dunebox::hostcalls {

absl::Status CheckProtectionKeys() {
  constexpr unsigned kPkuEnabledByOs = 1U << 4;  // [intel/vol2 CPUID] leaf 7, ECX
  const HostCpuid leaf = FeaturesOfHost(7);
  if ((leaf.ecx & kPkuEnabledByOs) == 0) {
    return absl::UnavailableError("the processor has no protection keys, or the kernel hides them");
  }
  // Emitted code looks at bits of EAX with PEXT.
  if ((leaf.ebx & bit_BMI2) == 0) return absl::UnavailableError("the processor has no BMI2");
  return absl::OkStatus();
}

absl::Status OpenProtectionKeys() {
  if (dunebox_keys_in_use != 0) return absl::OkStatus();
  if (absl::Status status = CheckProtectionKeys(); !status.ok()) return status;
  for (const int wanted : {DUNE_KEY_GUEST, DUNE_KEY_TABLES, DUNE_KEY_STAGING}) {
    const int key = pkey_alloc(0, 0);
    if (key < 0) return absl::UnavailableError(absl::StrCat("pkey_alloc: ", strerror(errno)));
    if (key != wanted) return absl::UnavailableError("this process uses protection keys already");
  }
  dunebox_keys_in_use = 1;
  return absl::OkStatus();
}

bool SetProtectionKey(void* start, std::size_t size, int prot, int key) {
  return pkey_mprotect(start, size, prot, key) == 0;
}

}  // namespace dunebox::hostcalls
