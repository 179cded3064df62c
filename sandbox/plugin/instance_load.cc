// What the host has loaded, and looks up in it.
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/instance_parts.h"
#include "sandbox/plugin/program_file.h"

namespace dunebox::plugin {

using hostcalls::Errno;

absl::StatusOr<internal::Block> Instance::Share(const std::string& text) {
  absl::StatusOr<internal::Block> block = Allocate(text.size() + 1);
  if (block.ok()) std::memcpy(block->host(), text.c_str(), text.size() + 1);
  return block;
}

// Why something failed that may have needed a file: where nobody is to be had who would open one, that.
absl::Status Instance::OrNoFiles(absl::Status status) const {
  if (status.ok()) return status;
  const absl::Status prepared = kernel_.files().Prepare();
  return prepared.ok() ? status : prepared;
}

absl::Status Instance::Load(const std::string& path) {
  if (absl::Status status = kernel_.files().Begin(); !status.ok()) return status;
  return OrNoFiles(LoadFile(path));
}

absl::Status Instance::LoadFile(const std::string& path) {
  const hostcalls::Window& window = memory_.window();
  const absl::StatusOr<std::optional<ProgramFile>> program =
      ReadProgramFile(path, kernel_.files().Allow(path), {GuestVirt{window.lowest}, GuestVirt{window.limit}});
  if (!program.ok()) return program.status();
  if (*program) return LoadProgram(**program);
  if (GetFunctions().names == 0) return LoadLibrary(path);
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": this sandbox has a program, beside which nothing can be loaded"));
}

absl::Status Instance::LoadLibrary(const std::string& path) {
  if (absl::Status status = EnsureStarted(); !status.ok()) return status;
  const absl::StatusOr<internal::Block> text = Share(path);
  if (!text.ok()) return text.status();
  const Functions functions = GetFunctions();
  const absl::StatusOr<CallResult> handle = CallWithin(
      {.time = policy_.load_deadline, .budget = {}}, functions.table.open_library, WithArgument(text->address()));
  if (!handle.ok()) return handle.status();
  if (handle->integer != 0) return absl::OkStatus();
  const absl::StatusOr<CallResult> error = Call(functions.table.last_error, {});
  if (!error.ok()) return error.status();
  constexpr std::size_t kMostText = 1000;
  const hostcalls::CopyResult<std::string> message =
      memory_.CopyInString(error->integer, kMostText, Errno{EFAULT});
  return absl::NotFoundError(message.ok() ? *message : absl::StrCat(path, ": cannot be loaded"));
}

absl::StatusOr<std::uint64_t> Instance::FindSymbol(const std::string& name) {
  if (absl::Status status = EnsureStarted(); !status.ok()) return status;
  const Functions functions = GetFunctions();
  if (functions.names != 0) return FindInProgram(functions.names, name);
  const absl::StatusOr<internal::Block> text = Share(name);
  if (!text.ok()) return text.status();
  const absl::StatusOr<CallResult> address = CallWithin(
      {.time = policy_.load_deadline, .budget = {}}, functions.table.find_symbol, WithArgument(text->address()));
  if (!address.ok()) return address.status();
  if (address->integer == 0) return absl::NotFoundError(absl::StrCat("no library has ", name));
  return address->integer;
}

}  // namespace dunebox::plugin
