#include "jit-fallback/cache/code_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/quiet_write.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

namespace dunebox::jit {
namespace {

absl::Status Failed(const char* what) {
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory for translated code: ", what, ": ", strerror(errno)));
}

// Older kernels do not know the seal against execve of the file.
int CreateFile() {
  const int fd = memfd_create("dunebox-code", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  return fd >= 0 || errno != EINVAL ? fd : memfd_create("dunebox-code", MFD_CLOEXEC);
}

}  // namespace

absl::StatusOr<CodeMemory> CodeMemory::Create(std::size_t size) {
  const int fd = CreateFile();
  if (fd < 0) return Failed("memfd_create");
  void* executable = MAP_FAILED;
  void* writable = MAP_FAILED;
  absl::Status failed;
  const auto grow = [&]() -> ssize_t { return ftruncate(fd, static_cast<off_t>(size)); };
  if (hostcalls::Quietly(grow) == 0) {
    executable = mmap(nullptr, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE, fd, 0);
    writable = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (executable == MAP_FAILED || writable == MAP_FAILED) failed = Failed("mmap");
  } else {
    failed = Failed("ftruncate");
  }
  close(fd);
  if (!failed.ok()) {
    if (executable != MAP_FAILED) munmap(executable, size);
    if (writable != MAP_FAILED) munmap(writable, size);
    return failed;
  }
  return CodeMemory(static_cast<std::uint8_t*>(executable), static_cast<std::uint8_t*>(writable),
                    size);
}

absl::Status CodeMemory::Renew(std::span<const Extent> kept) {
  const int fd = CreateFile();
  if (fd < 0) return Failed("memfd_create");
  absl::Status status = absl::OkStatus();
  const auto grow = [&]() -> ssize_t { return ftruncate(fd, static_cast<off_t>(size_)); };
  if (hostcalls::Quietly(grow) != 0) status = Failed("ftruncate");
  for (const Extent& extent : kept) {
    for (std::size_t done = 0; status.ok() && done < extent.length;) {
      const std::size_t at = extent.offset + done;
      const ssize_t written =
          pwrite(fd, writable_ + at, extent.length - done, static_cast<off_t>(at));
      if (written <= 0) {
        status = Failed("write");
      } else {
        done += static_cast<std::size_t>(written);
      }
    }
  }
  if (status.ok() && (mmap(executable_, size_, PROT_READ | PROT_EXEC,
                           MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) == MAP_FAILED ||
                      mmap(writable_, size_, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) == MAP_FAILED)) {
    status = absl::InternalError("translated code is at two places");
  }
  close(fd);
  return status;
}

CodeMemory::CodeMemory(CodeMemory&& other) noexcept
    : executable_(std::exchange(other.executable_, nullptr)),
      writable_(std::exchange(other.writable_, nullptr)),
      size_(other.size_) {}

CodeMemory::~CodeMemory() {
  if (executable_ == nullptr) return;
  munmap(executable_, size_);
  munmap(writable_, size_);
}

void CodeMemory::Write(std::size_t offset, std::span<const std::uint8_t> bytes) {
  std::memcpy(writable_ + offset, bytes.data(), bytes.size());
}

void CodeMemory::WriteAtomic32(std::size_t offset, std::int32_t value) {
  __atomic_store_n(reinterpret_cast<std::int32_t*>(writable_ + offset), value, __ATOMIC_RELEASE);
}

}  // namespace dunebox::jit
