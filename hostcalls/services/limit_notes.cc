#include "hostcalls/services/limit_notes.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include "hostcalls/services/limits.h"
#include "hostcalls/services/shared_memory.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::uint32_t Bit(RefusedLimit limit) {
  return std::uint32_t{1} << static_cast<unsigned>(limit);
}

}  // namespace

absl::StatusOr<int> LimitNotes::CreateFile(const KernelLimits& limits) {
  absl::StatusOr<int> fd = CreateSharedMemory("dunebox-limits", sizeof(Page));
  if (!fd.ok()) return fd.status();
  void* const memory = MapSharedMemory(*fd, sizeof(Page));
  if (memory == MAP_FAILED) {
    const absl::Status error = absl::ErrnoToStatus(errno, "cannot map the notes about limits");
    close(*fd);
    return error;
  }
  (new (memory) Page)->limits = limits;
  munmap(memory, sizeof(Page));
  return fd;
}

absl::StatusOr<std::unique_ptr<LimitNotes>> LimitNotes::Map(int fd) {
  void* const memory = MapSharedMemory(fd, sizeof(Page));
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "cannot map the notes about limits");
  return std::unique_ptr<LimitNotes>(new LimitNotes(static_cast<Page*>(memory)));
}

LimitNotes::~LimitNotes() { munmap(&page_, sizeof(Page)); }

void LimitNotes::Note(RefusedLimit limit) { page_.refused.fetch_or(Bit(limit)); }

bool LimitNotes::Has(RefusedLimit limit) const { return (page_.refused.load() & Bit(limit)) != 0; }

void LimitNotes::NoteError(Caller& caller, int error) {
  const auto is_in_force = [&](int resource, std::uint64_t of_session) {
    return of_session != 0 && caller.limits.Get(resource).rlim_cur == of_session;
  };
  if (error == EMFILE && is_in_force(RLIMIT_NOFILE, page_.limits.open_files)) {
    Note(RefusedLimit::kOpenFiles);
  }
  if (error == EFBIG && is_in_force(RLIMIT_FSIZE, page_.limits.file_size)) {
    Note(RefusedLimit::kFileSize);
  }
}

}  // namespace dunebox::hostcalls
