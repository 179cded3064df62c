// Opening a program: PATH search, `#!` lines, the ELF file and its interpreter.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
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

struct OpenedFile {
  runtime::FileDescriptor fd;
  std::uint64_t size;
};

// Opens what execve would: a regular file with execute permission.
absl::StatusOr<OpenedFile> OpenExecutable(const std::string& path) {
  // Looked at before it is opened for reading: opening a FIFO or a device has effects.
  runtime::FileDescriptor handle(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!handle.valid()) return FileError(path, errno);
  struct stat info;
  if (fstat(handle.get(), &info) != 0) return FileError(path, errno);
  if (S_ISDIR(info.st_mode)) return absl::PermissionDeniedError(path + ": is a directory");
  if (!S_ISREG(info.st_mode)) return absl::PermissionDeniedError(path + ": is no regular file");
  const std::string link = absl::StrCat("/proc/self/fd/", handle.get());
  if (faccessat(AT_FDCWD, link.c_str(), X_OK, AT_EACCESS) != 0) return FileError(path, errno);
  runtime::FileDescriptor file(open(link.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) {
    if (errno == EACCES) {
      return absl::PermissionDeniedError(path +
                                         ": not readable (execute-only files cannot be run)");
    }
    return FileError(path, errno);
  }
  return OpenedFile{std::move(file), static_cast<std::uint64_t>(info.st_size)};
}

absl::StatusOr<ElfFile> ParseOpened(const std::string& path, OpenedFile file,
                                    const GuestRange& window) {
  absl::StatusOr<ElfImage> image = ParseElf(FileBytes(file.fd.get(), file.size), window);
  if (!image.ok()) {
    return absl::Status(image.status().code(), absl::StrCat(path, ": ", image.status().message()));
  }
  return ElfFile{std::move(file.fd), *std::move(image)};
}

std::string ReadHead(int fd) {
  std::array<char, kProgramHeadSize> head;
  const ssize_t bytes = pread(fd, head.data(), head.size(), 0);
  return std::string(head.data(), bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
}

std::string ResolvedPath(int fd) {
  std::array<char, 4096> target;
  const std::string link = absl::StrCat("/proc/self/fd/", fd);
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
                                    const GuestRange& window) {
  Program program{.path = path, .arguments = std::move(arguments)};
  std::string current = path;
  for (int level = 0;; ++level) {
    absl::StatusOr<OpenedFile> file = OpenExecutable(current);
    if (!file.ok()) return file.status();
    const std::string head = ReadHead(file->fd.get());
    if (!IsScript(head)) {
      absl::StatusOr<ElfFile> executable = ParseOpened(current, *std::move(file), window);
      if (!executable.ok()) return executable.status();
      program.resolved_path = ResolvedPath(executable->fd.get());
      program.executable = *std::move(executable);
      break;
    }
    if (level == kMostScriptLevels) {
      return absl::OutOfRangeError(path + ": too many levels of #! interpreters");
    }
    absl::StatusOr<ScriptLine> line = ParseScriptLine(head);
    if (!line.ok()) {
      return absl::Status(line.status().code(),
                          absl::StrCat(current, ": ", line.status().message()));
    }
    // interpreter [argument] script arguments...; the script's own argv[0] is dropped.
    std::vector<std::string> rewritten = {line->interpreter};
    if (line->argument) rewritten.push_back(*line->argument);
    rewritten.push_back(current);
    if (program.arguments.size() > 1) {
      rewritten.insert(rewritten.end(), program.arguments.begin() + 1, program.arguments.end());
    }
    program.arguments = std::move(rewritten);
    current = line->interpreter;
  }
  const std::string& interpreter = program.executable.image.interpreter;
  if (!interpreter.empty()) {
    absl::StatusOr<OpenedFile> file = OpenExecutable(interpreter);
    if (!file.ok()) {
      return absl::Status(file.status().code(),
                          absl::StrCat(path, ": its interpreter ", file.status().message()));
    }
    absl::StatusOr<ElfFile> parsed = ParseOpened(interpreter, *std::move(file), window);
    if (!parsed.ok()) return parsed.status();
    program.interpreter = *std::move(parsed);
  }
  return program;
}

}  // namespace dunebox::loader
