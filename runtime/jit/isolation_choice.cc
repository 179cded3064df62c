#include "runtime/jit/isolation_choice.h"

#include <array>

#include "absl/strings/str_cat.h"

namespace dunebox::runtime {
namespace {

using jit::Isolation;

// Best first. `seg` is not among them: a program may need more than its 4 GiB.
constexpr std::array kOrder = {Isolation::kPku, Isolation::kMask, Isolation::kNone};

absl::Status NotThere(Isolation isolation) {
  return absl::UnimplementedError(
      absl::StrCat("--jit-isolation=", absl::string_view(NameOf(isolation).data(),
                                                         NameOf(isolation).size()),
                   " is not in this version"));
}

}  // namespace

absl::Status CheckIsolation(Isolation isolation) {
  switch (isolation) {
    case Isolation::kNone:
    case Isolation::kSeg:
      return absl::OkStatus();
    case Isolation::kPku:
    case Isolation::kMask:
    case Isolation::kMaskWrites:
      return NotThere(isolation);
  }
  return absl::OkStatus();
}

absl::StatusOr<Isolation> ChooseIsolation(std::optional<Isolation> wanted) {
  if (wanted) {
    if (absl::Status status = CheckIsolation(*wanted); !status.ok()) return status;
    return *wanted;
  }
  for (const Isolation isolation : kOrder) {
    if (CheckIsolation(isolation).ok()) return isolation;
  }
  return Isolation::kNone;
}

}  // namespace dunebox::runtime
