#include "dunebox/failure.h"

#include <signal.h>
#include <string.h>

#include <array>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace dunebox {
namespace {

constexpr absl::string_view kPayload = "dunebox/failure";
constexpr char kSeparator = '\n';

using Kind = Failure::Kind;

struct KindRow {
  Kind kind;
  absl::StatusCode code;
};
constexpr KindRow kKinds[] = {
    {Kind::kTrap, absl::StatusCode::kAborted},
    {Kind::kTimeout, absl::StatusCode::kDeadlineExceeded},
    {Kind::kExited, absl::StatusCode::kAborted},
    {Kind::kDenied, absl::StatusCode::kPermissionDenied},
    {Kind::kMismatch, absl::StatusCode::kAborted},
    {Kind::kCpuBudget, absl::StatusCode::kResourceExhausted},
    {Kind::kInstructionBudget, absl::StatusCode::kResourceExhausted},
};

std::string Place(const Failure& failure) {
  if (failure.instruction == 0) return "";
  std::string text = absl::StrFormat(" at 0x%x", failure.instruction);
  if (!failure.symbol.empty()) absl::StrAppend(&text, " (", failure.symbol, ")");
  return text;
}

std::string Reason(const Failure& failure) {
  switch (failure.kind) {
    case Kind::kTrap: {
      const char* const name = sigabbrev_np(failure.signal);
      std::string text = absl::StrCat(
          "the plugin was ended by ",
          name != nullptr ? absl::StrCat("SIG", name) : absl::StrCat("signal ", failure.signal),
          Place(failure));
      if (failure.fault_address != 0) {
        absl::StrAppend(&text, absl::StrFormat(", address 0x%x", failure.fault_address));
      }
      return text;
    }
    case Kind::kTimeout:
      return absl::StrCat("the call did not return before its deadline", Place(failure));
    case Kind::kExited:
      return absl::StrCat("the plugin exited with status ", failure.exit_status);
    case Kind::kDenied:
      if (failure.call.empty()) return absl::StrCat("the compartment was stopped", Place(failure));
      return absl::StrCat("the plugin made a system call that its policy refuses: ", failure.call,
                          Place(failure));
    case Kind::kMismatch:
      return "the plugin returned from a call with another stack than it was called with";
    case Kind::kCpuBudget:
      return absl::StrCat("the plugin has used up its time on the processor", Place(failure));
    case Kind::kInstructionBudget:
      return absl::StrCat("the plugin has used up its instructions", Place(failure));
  }
  return "";
}

std::string Message(const Failure& failure) {
  std::string text = Reason(failure);
  if (failure.reached_memory_limit) absl::StrAppend(&text, "; it had reached its memory_limit");
  if (!failure.missing_grant.empty()) absl::StrAppend(&text, "; not granted: ", failure.missing_grant);
  return text;
}

}  // namespace

absl::Status ToStatus(const Failure& failure) {
  const KindRow& row = kKinds[static_cast<std::size_t>(failure.kind)];
  absl::Status status(row.code, Message(failure));
  status.SetPayload(
      kPayload,
      absl::Cord(absl::StrJoin(
          std::vector<std::string>{
              absl::StrCat(static_cast<int>(failure.kind)), absl::StrCat(failure.signal),
              absl::StrCat(failure.exit_status), absl::StrCat(failure.instruction),
              absl::StrCat(failure.fault_address), absl::StrCat(failure.reached_memory_limit), failure.call,
              failure.missing_grant, failure.symbol},
          std::string(1, kSeparator))));
  return status;
}

std::optional<Failure> FailureOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayload);
  if (!payload) return std::nullopt;
  const std::string text(*payload);
  // The symbol comes last: it may hold anything.
  const std::vector<std::string> fields = absl::StrSplit(text, absl::MaxSplits(kSeparator, 8));
  Failure failure;
  int kind = 0, reached = 0;
  if (fields.size() != 9 || !absl::SimpleAtoi(fields[0], &kind) || kind < 0 ||
      static_cast<std::size_t>(kind) >= std::size(kKinds) ||
      !absl::SimpleAtoi(fields[1], &failure.signal) ||
      !absl::SimpleAtoi(fields[2], &failure.exit_status) ||
      !absl::SimpleAtoi(fields[3], &failure.instruction) ||
      !absl::SimpleAtoi(fields[4], &failure.fault_address) || !absl::SimpleAtoi(fields[5], &reached)) {
    return std::nullopt;
  }
  failure.kind = static_cast<Kind>(kind);
  failure.reached_memory_limit = reached != 0;
  failure.call = fields[6];
  failure.missing_grant = fields[7];
  failure.symbol = fields[8];
  return failure;
}

}  // namespace dunebox
