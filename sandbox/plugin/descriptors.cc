#include "sandbox/plugin/descriptors.h"

namespace dunebox::plugin {

Descriptors::Descriptors() {
  auto empty = std::make_shared<OpenFile>();
  auto output = std::make_shared<OpenFile>();
  output->kind = OpenFile::Kind::kOutput;
  entries_[0] = {empty, false};
  entries_[1] = entries_[2] = {output, false};
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
