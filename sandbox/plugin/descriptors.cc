#include "sandbox/plugin/descriptors.h"

#include <fcntl.h>

namespace dunebox::plugin {
namespace {

std::shared_ptr<const OpenFile> Output(int to) {
  auto output = std::make_shared<OpenFile>();
  output->kind = OpenFile::Kind::kOutput;
  if (to >= 0) output->host = runtime::FileDescriptor(fcntl(to, F_DUPFD_CLOEXEC, 3));
  return output;
}

}  // namespace

Descriptors::Descriptors(int stdout_to, int stderr_to) {
  entries_[0] = {std::make_shared<OpenFile>(), false};
  entries_[1] = {Output(stdout_to), false};
  entries_[2] = {Output(stderr_to), false};
}

int Descriptors::Add(std::shared_ptr<const OpenFile> file, bool closes_on_exec, int least) {
  const std::lock_guard lock(mutex_);
  for (int fd = least; IsNumber(fd); ++fd) {
    Entry& entry = entries_[static_cast<std::size_t>(fd)];
    if (entry.file != nullptr) continue;
    entry = {std::move(file), closes_on_exec};
    return fd;
  }
  return -1;
}

bool Descriptors::Set(int fd, std::shared_ptr<const OpenFile> file, bool closes_on_exec) {
  if (!IsNumber(fd)) return false;
  const std::lock_guard lock(mutex_);
  entries_[static_cast<std::size_t>(fd)] = {std::move(file), closes_on_exec};
  return true;
}

bool Descriptors::Close(int fd) {
  if (!IsNumber(fd)) return false;
  const std::lock_guard lock(mutex_);
  return std::exchange(entries_[static_cast<std::size_t>(fd)], Entry{}).file != nullptr;
}

std::shared_ptr<const OpenFile> Descriptors::Find(int fd) const {
  if (!IsNumber(fd)) return nullptr;
  const std::lock_guard lock(mutex_);
  return entries_[static_cast<std::size_t>(fd)].file;
}

bool Descriptors::ClosesOnExec(int fd) const {
  if (!IsNumber(fd)) return false;
  const std::lock_guard lock(mutex_);
  return entries_[static_cast<std::size_t>(fd)].closes_on_exec;
}

void Descriptors::SetClosesOnExec(int fd, bool closes) {
  if (!IsNumber(fd)) return;
  const std::lock_guard lock(mutex_);
  entries_[static_cast<std::size_t>(fd)].closes_on_exec = closes;
}

}  // namespace dunebox::plugin
