#include "sandbox/c_api/report.h"

#include <cstddef>
#include <iterator>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "dunebox/failure.h"

namespace dunebox::c_api {
namespace {

struct StatusRow {
  absl::StatusCode code;
  dunebox_status status;
};
constexpr StatusRow kStatuses[] = {
    {absl::StatusCode::kOk, DUNEBOX_OK},
    {absl::StatusCode::kInvalidArgument, DUNEBOX_INVALID_ARGUMENT},
    {absl::StatusCode::kNotFound, DUNEBOX_NOT_FOUND},
    {absl::StatusCode::kOutOfRange, DUNEBOX_OUT_OF_RANGE},
    {absl::StatusCode::kResourceExhausted, DUNEBOX_RESOURCE_EXHAUSTED},
    {absl::StatusCode::kFailedPrecondition, DUNEBOX_FAILED_PRECONDITION},
    {absl::StatusCode::kUnimplemented, DUNEBOX_UNIMPLEMENTED},
    {absl::StatusCode::kUnavailable, DUNEBOX_UNAVAILABLE},
};

constexpr const char* kNames[] = {
    "ok",
    "invalid argument",
    "not found",
    "out of range",
    "resource exhausted",
    "failed precondition",
    "unimplemented",
    "unavailable",
    "internal",
    "the sandbox has failed",
};
static_assert(std::size(kNames) == DUNEBOX_FAILED + 1);

struct FailureRow {
  Failure::Kind kind;
  dunebox_failure failure;
};
constexpr FailureRow kFailures[] = {
    {Failure::Kind::kTrap, DUNEBOX_FAILURE_TRAP},
    {Failure::Kind::kTimeout, DUNEBOX_FAILURE_TIMEOUT},
    {Failure::Kind::kExited, DUNEBOX_FAILURE_EXITED},
    {Failure::Kind::kDenied, DUNEBOX_FAILURE_DENIED},
    {Failure::Kind::kMismatch, DUNEBOX_FAILURE_MISMATCH},
    {Failure::Kind::kCpuBudget, DUNEBOX_FAILURE_CPU_BUDGET},
    {Failure::Kind::kInstructionBudget, DUNEBOX_FAILURE_INSTRUCTION_BUDGET},
};

dunebox_status StatusOf(absl::StatusCode code) {
  for (const StatusRow& row : kStatuses) {
    if (row.code == code) return row.status;
  }
  return DUNEBOX_INTERNAL;
}

dunebox_failure FailureOfKind(Failure::Kind kind) {
  for (const FailureRow& row : kFailures) {
    if (row.kind == kind) return row.failure;
  }
  return DUNEBOX_FAILURE_NONE;
}

template <std::size_t kSize>
void CopyText(std::string_view text, char (&to)[kSize]) {
  to[text.copy(to, kSize - 1)] = '\0';
}

}  // namespace

dunebox_status Report(const absl::Status& status, dunebox_error* error) {
  if (status.ok() && error == nullptr) return DUNEBOX_OK;
  const std::optional<Failure> failure = FailureOf(status);
  const dunebox_status code = failure ? DUNEBOX_FAILED : StatusOf(status.code());
  if (error == nullptr) return code;
  error->status = code;
  const Failure details = failure.value_or(Failure{});
  error->failure = failure ? FailureOfKind(details.kind) : DUNEBOX_FAILURE_NONE;
  error->signal = details.signal;
  error->exit_status = details.exit_status;
  error->instruction = details.instruction;
  error->fault_address = details.fault_address;
  error->reached_memory_limit = details.reached_memory_limit ? 1 : 0;
  CopyText(details.symbol, error->symbol);
  CopyText(details.call, error->system_call);
  CopyText(std::string_view(status.message().data(), status.message().size()), error->message);
  return code;
}

absl::Status NoObject(const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("no ", what, ", or one that was destroyed"));
}

}  // namespace dunebox::c_api

extern "C" const char* dunebox_version(void) { return DUNEBOX_VERSION; }

extern "C" const char* dunebox_status_name(dunebox_status status) {
  const auto index = static_cast<std::size_t>(status);
  return index < std::size(dunebox::c_api::kNames) ? dunebox::c_api::kNames[index] : "unknown";
}
