#include "runtime/jit/isolation_choice.h"

#include <cpuid.h>

#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/host_cpuid.h"
#include "runtime/jit/key_probe.h"

namespace dunebox::runtime {
namespace {

using jit::Isolation;

// Best first. `seg` is not among them: a program may need more than its 4 GiB.
constexpr std::array kOrder = {Isolation::kPku, Isolation::kMask};

// [intel/vol2 CPUID] BMI2: PDEP, PEXT and SARX.
bool HasBitDeposit() {
  return (hostcalls::FeaturesOfHost(7).ebx & bit_BMI2) != 0;
}

absl::string_view TextOf(Isolation isolation) {
  const std::string_view name = NameOf(isolation);
  return {name.data(), name.size()};
}

}  // namespace

absl::Status CheckIsolation(Isolation isolation) {
  switch (isolation) {
    case Isolation::kNone:
    case Isolation::kSeg:
      return absl::OkStatus();
    case Isolation::kMask:
    case Isolation::kMaskWrites:
      if (!HasBitDeposit()) {
        return absl::UnavailableError("isolation by mask needs a processor with BMI2");
      }
      return absl::OkStatus();
    case Isolation::kPku:
      return ProbeKeys();
  }
  return absl::OkStatus();
}

absl::StatusOr<Isolation> ChooseIsolation(std::optional<Isolation> wanted,
                                          absl::FunctionRef<absl::Status(Isolation)> check) {
  if (wanted) {
    const absl::Status status = check(*wanted);
    if (status.ok()) return *wanted;
    return errors::Behind(absl::StrCat("--jit-isolation=", TextOf(*wanted)), status);
  }
  std::string reasons;
  for (const Isolation isolation : kOrder) {
    const absl::Status status = check(isolation);
    if (status.ok()) return isolation;
    absl::StrAppend(&reasons, reasons.empty() ? "" : "; ", status.message());
  }
  return absl::UnavailableError(absl::StrCat("engine jit cannot isolate a program here (", reasons,
                                             "); --jit-isolation=none runs it without"));
}

}  // namespace dunebox::runtime
