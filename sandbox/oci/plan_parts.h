// Parts of a plan that plan.cc puts together; nobody else uses them.
//
//   if (absl::Status status = PlanMounts(config, source, plan); !status.ok()) return status;
#ifndef DUNEBOX_SANDBOX_OCI_PLAN_PARTS_H_
#define DUNEBOX_SANDBOX_OCI_PLAN_PARTS_H_

#include <string_view>

#include "absl/status/status.h"
#include "sandbox/oci/plan.h"

namespace dunebox::oci {

absl::Status PlanMounts(const Config& config, const ConfigSource& source, Plan& plan);
// A setting that no namespace of the container's keeps from the host is an error.
absl::Status CheckSysctls(const Config& config, std::string_view file);

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_PLAN_PARTS_H_
