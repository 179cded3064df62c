#include "sandbox/plugin/guest_process.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace dunebox::plugin {

void GuestProcess::EndBySignal(const PluginThread& thread, int signal, std::uint64_t fault_address,
                               std::string missing_grant) {
  const std::uint64_t instruction = thread.registers.rip;
  End({.kind = Failure::Kind::kTrap,
       .signal = signal,
       .instruction = instruction,
       .fault_address = fault_address,
       .symbol = SymbolAt(instruction),
       .missing_grant = std::move(missing_grant)});
}

absl::Status GuestProcess::Fail(const absl::Status& status) {
  End({.kind = Failure::Kind::kTrap});
  return absl::InternalError(absl::StrCat("engine failure: ", status.message()));
}

}  // namespace dunebox::plugin
