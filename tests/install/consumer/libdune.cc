// Finds the page that it writes to.
#include <sys/mman.h>

#include <cstdio>
#include <string>

#include "dune/dune.h"
#include "dune/page_table.h"

int main() {
  const absl::Status entered = dune::Enter({.backend = dune::Wanted::kSoftware});
  if (!entered.ok()) {
    std::fprintf(stderr, "%s\n", std::string(entered.message()).c_str());
    return 1;
  }
  constexpr std::size_t kPages = 8;
  void* const memory = mmap(nullptr, kPages * dune::kPageSize, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const dune::Range range{reinterpret_cast<std::uintptr_t>(memory), kPages * dune::kPageSize};
  dune::PageTable& table = dune::PageTable::Current();
  if (!table.Track(range, dune::Tracking::kDirty).ok()) return 1;
  static_cast<volatile char*>(memory)[5 * dune::kPageSize] = 1;
  dune::Range written;
  if (!table.TestAndClearDirty(range, [&](dune::Range part) { written = part; }).ok()) return 1;
  return written == dune::Range{range.begin + 5 * dune::kPageSize, dune::kPageSize} ? 0 : 1;
}
