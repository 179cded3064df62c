#include "sandbox/plugin/program_file.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/loader/byte_source.h"

namespace dunebox::plugin {
namespace {

absl::Status CannotBeLoaded(const std::string& path, absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": ", why));
}

}  // namespace

absl::StatusOr<std::optional<ProgramFile>> ReadProgramFile(const std::string& path,
                                                           hostcalls::CopyResult<OpenFile> file,
                                                           const GuestRange& window) {
  struct stat status;
  if (!file.ok() || !file->is_executable || fstat(file->host.get(), &status) != 0) return std::nullopt;
  const loader::ByteSource source =
      loader::FileBytes(file->host.get(), static_cast<std::uint64_t>(status.st_size));
  const absl::StatusOr<loader::ElfUse> use = loader::UseOf(source);
  if (!use.ok() || *use == loader::ElfUse::kLibrary) return std::nullopt;
  if (*use == loader::ElfUse::kDynamicProgram) {
    return CannotBeLoaded(path,
                          "a program that is linked dynamically; what can be loaded is a shared library (linked with "
                          "-shared) or a static program (-static, -static-pie)");
  }
  absl::StatusOr<loader::ElfImage> image = loader::ParseElf(source, window);
  if (!image.ok()) return CannotBeLoaded(path, image.status().message());
  absl::StatusOr<loader::ProgramSymbols> symbols = loader::ReadProgramSymbols(source, *image);
  if (!symbols.ok()) return CannotBeLoaded(path, symbols.status().message());
  if (symbols->symbols.empty()) {
    return CannotBeLoaded(path,
                          "a program without symbols, in which nothing can be found: link it without -s and do not "
                          "strip it (strip -g leaves them)");
  }
  ProgramFile result{.program = {.path = path, .resolved_path = file->name, .arguments = {path}},
                     .symbols = *std::move(symbols)};
  result.program.executable = {.handle = std::move(file->host),
                               .image = *std::move(image),
                               .kind = loader::ElfFile::Handle::kOpen};
  return result;
}

}  // namespace dunebox::plugin
