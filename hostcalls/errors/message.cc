#include "hostcalls/errors/message.h"

#include <unistd.h>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace dunebox::errors {
namespace {

constexpr char kPayload[] = "dunebox/error";

int standard_error = STDERR_FILENO;

}  // namespace

absl::Status Named(Id id, absl::Status status) {
  if (status.ok() || status.GetPayload(kPayload)) return status;
  status.SetPayload(kPayload, absl::Cord(CodeOf(id).data()));
  return status;
}

Id NameOf(const absl::Status& status, Id otherwise) {
  const auto code = status.GetPayload(kPayload);
  if (!code) return otherwise;
  int number = 0;
  return absl::SimpleAtoi(std::string(*code).substr(1), &number) ? static_cast<Id>(number) : otherwise;
}

absl::Status Behind(std::string_view front, const absl::Status& status) {
  absl::Status whole(status.code(), absl::StrCat(std::string(front), ": ", status.message()));
  if (const auto code = status.GetPayload(kPayload)) whole.SetPayload(kPayload, *code);
  return whole;
}

std::string WithCode(Id id, std::string_view message) {
  return absl::StrCat(std::string(message), " [", CodeOf(id).data(), "]");
}

std::string LineOf(Id id, std::string_view message) {
  return absl::StrCat("dunebox: ", WithCode(id, message), "\n");
}

void SpeakTo(int fd) { standard_error = fd; }

void Say(Id id, std::string_view message) {
  const std::string line = LineOf(id, message);
  [[maybe_unused]] const ssize_t written = write(standard_error, line.data(), line.size());
}

void Say(Id otherwise, const absl::Status& status) {
  Say(NameOf(status, otherwise), {status.message().data(), status.message().size()});
}

}  // namespace dunebox::errors
