// Runs two instructions in ring 3, by the machine's ring 0 or by the translator.
#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "dune/dune.h"
#include "dune/user.h"
#include "dunebox/ring3.h"

int main() {
  absl::Status entered = dunebox::ProvideRing3();
  if (entered.ok()) entered = dune::Enter();
  if (!entered.ok()) {
    std::fprintf(stderr, "%s\n", std::string(entered.message()).c_str());
    return 1;
  }
  void* const memory =
      mmap(nullptr, dune::kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  constexpr unsigned char kCode[] = {0xb8, 42, 0, 0, 0, 0x0f, 0x05};  // mov $42, %eax; syscall
  std::memcpy(memory, kCode, sizeof(kCode));
  constexpr std::uintptr_t kAddress = 0x400000;
  absl::StatusOr<dune::PageTable> table = dune::PageTable::Create(dune::PageTable::Contents::kEmpty);
  if (!table.ok() ||
      !table->Map({kAddress, dune::kPageSize}, memory, {.rights = dune::Rights::kReadExecute}).ok()) {
    return 1;
  }
  dune::UserContext context;
  context.rip = kAddress;
  const absl::StatusOr<dune::Stop> stop = dune::RunUser(context, *table);
  const bool is_right =
      stop.ok() && stop->reason == dune::StopReason::kSystemCall && context.rax == 42;
  return is_right ? 0 : 1;
}
