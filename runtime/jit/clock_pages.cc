#include "runtime/jit/clock_pages.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "hostcalls/memory/protection_keys.h"
#include "runtime/text_file.h"

namespace dunebox::runtime {

absl::Status OpenClockPages() {
  const absl::StatusOr<std::string> maps = ReadTextFile("/proc/self/maps");
  if (!maps.ok()) return maps.status();
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(*maps, '\n'))) {
    std::uint64_t start = 0, end = 0;
    if (!absl::StrContains(line, " [vvar") ||
        std::sscanf(line.c_str(), "%lx-%lx", &start, &end) != 2) {
      continue;
    }
    // Whole mappings: the kernel refuses to split them.
    void* pages = reinterpret_cast<void*>(start);
    if (!hostcalls::SetProtectionKey(pages, end - start, PROT_READ, DUNE_KEY_TABLES)) {
      return absl::UnavailableError(absl::StrCat("pkey_mprotect of ", line, ": ", strerror(errno)));
    }
  }
  return absl::OkStatus();
}

}  // namespace dunebox::runtime
