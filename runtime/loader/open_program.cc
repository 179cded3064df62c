// Opening a program: PATH search, `#!` lines, the ELF file and its interpreter.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/services/separate_descriptors.h"
#include "runtime/loader/byte_source.h"
#include "runtime/loader/program.h"
#include "runtime/loader/script.h"

namespace dunebox::loader {
namespace {

constexpr int kMostScriptLevels = 5;  // [linux] exec_binprm

absl::Status FileError(const std::string& path, int error) {
  const std::string text = absl::StrCat(path, ": ", strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(text);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(text);
    case ELOOP:
    case ENAMETOOLONG:
      return absl::FailedPreconditionError(text);
    default:
      return absl::UnavailableError(text);
  }
}

struct ProgramFile {
  runtime::FileDescriptor handle;  // O_PATH
  std::uint64_t size;
};

// Finds what execve would open: a regular file with execute permission. It is looked at before it
// is opened for reading: opening a FIFO or a device has effects.
absl::StatusOr<ProgramFile> FindExecutable(const std::string& path, MayExecute may_execute) {
  runtime::FileDescriptor handle(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!handle.valid()) return FileError(path, errno);
  struct stat info;
  if (fstat(handle.get(), &info) != 0) return FileError(path, errno);
  if (S_ISDIR(info.st_mode)) return absl::PermissionDeniedError(path + ": is a directory");
  if (!S_ISREG(info.st_mode)) return absl::PermissionDeniedError(path + ": is no regular file");
  const std::string link = hostcalls::DescriptorPath(handle.get());
  if (faccessat(AT_FDCWD, link.c_str(), X_OK, AT_EACCESS) != 0) return FileError(path, errno);
  if (absl::Status allowed = may_execute(handle.get(), path); !allowed.ok()) return allowed;
  return ProgramFile{std::move(handle), static_cast<std::uint64_t>(info.st_size)};
}

std::string ReadHead(int fd) {
  std::array<char, kProgramHeadSize> head;
  const ssize_t bytes = pread(fd, head.data(), head.size(), 0);
  return std::string(head.data(), bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
}

// What the file says: a script's first bytes, or an ELF image.
struct Contents {
  std::string head;
  std::optional<ElfImage> image;  // where it is no script
};

enum class Scripts : unsigned char { kAllowed, kNotAllowed };

// With a descriptor table of its own.
absl::StatusOr<Contents> ReadHere(const std::string& path, const ProgramFile& file, Scripts scripts,
                                  const GuestRange& window) {
  const std::string link = hostcalls::DescriptorPath(file.handle.get());
  const runtime::FileDescriptor fd(open(link.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == EACCES) {
      return absl::PermissionDeniedError(path +
                                         ": not readable (execute-only files cannot be run)");
    }
    return FileError(path, errno);
  }
  Contents contents{.head = ReadHead(fd.get()), .image = std::nullopt};
  if (scripts == Scripts::kAllowed && IsScript(contents.head)) return contents;
  absl::StatusOr<ElfImage> image = ParseElf(FileBytes(fd.get(), file.size), window);
  if (!image.ok()) {
    return errors::Named(errors::Id::kNotAProgram, errors::Behind(path, image.status()));
  }
  contents.image = *std::move(image);
  return contents;
}

absl::StatusOr<Contents> Read(const std::string& path, const ProgramFile& file, Scripts scripts,
                              const GuestRange& window) {
  absl::StatusOr<Contents> contents = absl::UnknownError("not read");
  hostcalls::WithSeparateDescriptors([&] { contents = ReadHere(path, file, scripts, window); });
  return contents;
}

std::string ResolvedPath(int fd) {
  std::array<char, 4096> target;
  const std::string link = hostcalls::DescriptorPath(fd);
  const ssize_t length = readlink(link.c_str(), target.data(), target.size());
  return std::string(target.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
}

}  // namespace

absl::StatusOr<std::string> FindProgram(const std::string& name) {
  if (name.empty()) return absl::NotFoundError("the program's name is empty");
  if (name.find('/') != std::string::npos) return name;
  const char* path = getenv("PATH");
  bool forbidden = false;
  for (absl::string_view folder : absl::StrSplit(path != nullptr ? path : "/bin:/usr/bin", ':')) {
    const std::string candidate = absl::StrCat(folder.empty() ? "." : folder, "/", name);
    if (faccessat(AT_FDCWD, candidate.c_str(), X_OK, AT_EACCESS) == 0) {
      struct stat info;
      if (stat(candidate.c_str(), &info) == 0 && S_ISREG(info.st_mode)) return candidate;
    }
    forbidden = forbidden || errno == EACCES;
  }
  if (forbidden) return absl::PermissionDeniedError(absl::StrCat(name, ": permission denied"));
  return absl::NotFoundError(absl::StrCat(name, ": not found in PATH"));
}

absl::StatusOr<Program> OpenProgram(const std::string& path, std::vector<std::string> arguments,
                                    const GuestRange& window, MayExecute may_execute) {
  Program program{.path = path, .arguments = std::move(arguments)};
  std::string current = path;
  for (int level = 0;; ++level) {
    absl::StatusOr<ProgramFile> file = FindExecutable(current, may_execute);
    if (!file.ok()) return file.status();
    absl::StatusOr<Contents> contents = Read(current, *file, Scripts::kAllowed, window);
    if (!contents.ok()) return contents.status();
    if (contents->image) {
      program.resolved_path = ResolvedPath(file->handle.get());
      program.executable = {std::move(file->handle), *std::move(contents->image)};
      break;
    }
    if (level == kMostScriptLevels) {
      return absl::OutOfRangeError(path + ": too many levels of #! interpreters");
    }
    absl::StatusOr<ScriptLine> line = ParseScriptLine(contents->head);
    if (!line.ok()) {
      return errors::Named(errors::Id::kBadScript, errors::Behind(current, line.status()));
    }
    // interpreter [argument] script arguments...; the script's own argv[0] is dropped.
    std::vector<std::string> rewritten = {line->interpreter};
    if (line->argument) rewritten.push_back(*line->argument);
    rewritten.push_back(current);
    if (program.arguments.size() > 1) {
      rewritten.insert(rewritten.end(), program.arguments.begin() + 1, program.arguments.end());
    }
    program.arguments = std::move(rewritten);
    program.is_script = true;
    current = line->interpreter;
  }
  const std::string& interpreter = program.executable.image.interpreter;
  if (!interpreter.empty()) {
    absl::StatusOr<ProgramFile> file = FindExecutable(interpreter, may_execute);
    if (!file.ok()) {
      const absl::Status status(file.status().code(),
                                absl::StrCat(path, ": its interpreter ", file.status().message()));
      return errors::Named(errors::Id::kNoInterpreter, status);
    }
    absl::StatusOr<Contents> contents = Read(interpreter, *file, Scripts::kNotAllowed, window);
    if (!contents.ok()) return contents.status();
    program.interpreter = ElfFile{std::move(file->handle), *std::move(contents->image)};
  }
  return program;
}

}  // namespace dunebox::loader
