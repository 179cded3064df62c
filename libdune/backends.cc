#include "libdune/backend.h"
#include "libdune/software/software_machine.h"

namespace dune {

std::span<const BackendRow> Backends() {
  static constexpr BackendRow kBackends[] = {
      {Wanted::kSoftware, software::MakeMachine},
  };
  return kBackends;
}

}  // namespace dune
