// Which isolations of translated code this machine offers, and which one a run takes that does not
// say: the one place where that is decided, for runs and for the doctor.
//
//   absl::StatusOr<jit::Isolation> isolation = ChooseIsolation(options.isolation);
#ifndef DUNEBOX_RUNTIME_JIT_ISOLATION_CHOICE_H_
#define DUNEBOX_RUNTIME_JIT_ISOLATION_CHOICE_H_

#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "jit-fallback/emit/isolation.h"

namespace dunebox::runtime {

// Why this machine cannot have it; OK when it can.
absl::Status CheckIsolation(jit::Isolation isolation);

// `wanted` itself, or an error that says why it cannot be had: never a weaker one. Nothing wanted:
// the best for whole programs; "none" has to be asked for.
absl::StatusOr<jit::Isolation> ChooseIsolation(
    std::optional<jit::Isolation> wanted,
    absl::FunctionRef<absl::Status(jit::Isolation)> check = CheckIsolation);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_ISOLATION_CHOICE_H_
