#include "libdune/backend.h"
#include "libdune/ring0_backend/ring0_machine.h"
#include "libdune/software/software_machine.h"

namespace dune {

std::span<const BackendRow> Backends() {
  static constexpr BackendRow kBackends[] = {
      {Wanted::kRing0, MakeRing0Machine},
      {Wanted::kSoftware, software::MakeMachine},
  };
  return kBackends;
}

}  // namespace dune
