#include "runtime/jit/clock_pages.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "hostcalls/memory/protection_keys.h"
#include "runtime/maps_line.h"
#include "runtime/text_file.h"

namespace dunebox::runtime {

absl::Status OpenClockPages() {
  const absl::StatusOr<std::string> maps = ReadTextFile("/proc/self/maps");
  if (!maps.ok()) return maps.status();
  for (const MapsLine& line : ParseMaps(*maps)) {
    if (!line.name.starts_with("[vvar")) continue;
    // Whole mappings: the kernel refuses to split them.
    void* pages = reinterpret_cast<void*>(line.start);
    if (!hostcalls::SetProtectionKey(pages, line.end - line.start, PROT_READ, DUNE_KEY_TABLES)) {
      return absl::UnavailableError(
          absl::StrCat("pkey_mprotect of ", std::string(line.text), ": ", strerror(errno)));
    }
  }
  return absl::OkStatus();
}

}  // namespace dunebox::runtime
