#include "libdune/ring0_backend/memory_maps.h"

#include <fcntl.h>

#include <cerrno>

#include "libdune/ring0_backend/raw_call.h"
#include "libdune/software/kernel_abi.h"

namespace dune::ring0 {
namespace {

// A hexadecimal number; `*place` moves behind it.
bool ParseNumber(const char* line, std::size_t size, std::size_t* place, std::uint64_t* value) {
  const std::size_t begin = *place;
  *value = 0;
  for (; *place < size; ++*place) {
    const char digit = line[*place];
    unsigned nibble = 0;
    if (digit >= '0' && digit <= '9') {
      nibble = static_cast<unsigned>(digit - '0');
    } else if (digit >= 'a' && digit <= 'f') {
      nibble = static_cast<unsigned>(digit - 'a') + 10;
    } else {
      break;
    }
    *value = *value << 4 | nibble;
  }
  return *place > begin;
}

bool Skip(const char* line, std::size_t size, std::size_t* place, char wanted) {
  if (*place >= size || line[*place] != wanted) return false;
  ++*place;
  return true;
}

}  // namespace

// 55d0c0a00000-55d0c0a21000 rw-p 00000000 08:01 1234   /path
bool ParseMapsLine(const char* line, std::size_t size, Area* area) {
  std::size_t place = 0;
  std::uint64_t offset = 0, major = 0, minor = 0;
  if (!ParseNumber(line, size, &place, &area->begin) || !Skip(line, size, &place, '-') ||
      !ParseNumber(line, size, &place, &area->end) || !Skip(line, size, &place, ' ') ||
      place + 5 > size) {
    return false;
  }
  area->rights = (line[place] == 'r' ? Area::kRead : 0) |
                 (line[place + 1] == 'w' ? Area::kWrite : 0) |
                 (line[place + 2] == 'x' ? Area::kExecute : 0);
  place += 5;
  if (!ParseNumber(line, size, &place, &offset) || !Skip(line, size, &place, ' ') ||
      !ParseNumber(line, size, &place, &major) || !Skip(line, size, &place, ':') ||
      !ParseNumber(line, size, &place, &minor) || !Skip(line, size, &place, ' ')) {
    return false;
  }
  area->of_file = place < size && line[place] != '0';
  return true;
}

namespace {

enum class Answer : std::uint8_t { kFound, kNone, kNoSuchQuestion };

Answer Ask(long fd, std::uint64_t address, Area* area) {
  software::MappingQuery query;
  query.query_flags = software::kQueryCoveringOrNext;
  query.query_addr = address;
  const long asked = RawCall(SYS_ioctl, fd, software::kMappingQuery, &query);
  if (asked < 0) return asked == -ENOENT ? Answer::kNone : Answer::kNoSuchQuestion;
  *area = {.begin = query.vma_start,
           .end = query.vma_end,
           .rights = static_cast<unsigned>(query.vma_flags & software::kQueryRights),
           .of_file = query.inode != 0};
  return Answer::kFound;
}

// By places of its own: several may read the file at once.
bool FindInText(long fd, std::uint64_t address, Area* area) {
  char text[4096 + 512];
  std::size_t held = 0;
  long place_in_file = 0;
  bool found = false;
  while (!found) {
    const long got = RawCall(SYS_pread64, fd, text + held, sizeof(text) - held, place_in_file);
    if (got <= 0) break;
    place_in_file += got;
    held += static_cast<std::size_t>(got);
    std::size_t line = 0;
    for (std::size_t place = 0; place < held && !found; ++place) {
      if (text[place] != '\n') continue;  // NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult): read above
      if (ParseMapsLine(text + line, place - line, area)) {
        found = address < area->end;
      }
      line = place + 1;
    }
    // A line longer than the buffer has a name that nobody needs; its beginning is what counts.
    if (line == 0 && held == sizeof(text)) line = held;
    CopyBytes(text, text + line, held - line);
    held -= line;
  }
  return found;
}

}  // namespace

long MemoryMaps::Open() {
  const auto open = [this] { return RawCall(SYS_openat, proc_, "self/maps", O_RDONLY | O_CLOEXEC); };
  long fd = open();
  if (fd == -EMFILE && file_ >= 0) {
    // All are in use, so it is the same number.
    Close();
    fd = open();
  } else if (fd >= 0 && file_ >= 0) {
    const long moved = RawCall(SYS_dup3, fd, file_, O_CLOEXEC);
    RawCall(SYS_close, fd);
    fd = moved;
  }
  if (fd < 0) return fd;
  file_ = static_cast<int>(fd);
  return 0;
}

void MemoryMaps::Close() {
  if (file_ >= 0) RawCall(SYS_close, file_);
  file_ = -1;
}

bool MemoryMaps::FindFrom(std::uint64_t address, Area* area) const {
  Answer answer = source_ == Source::kText ? Answer::kNoSuchQuestion : Ask(file_, address, area);
  if (answer == Answer::kNoSuchQuestion) {
    answer = FindInText(file_, address, area) ? Answer::kFound : Answer::kNone;
  }
  return answer == Answer::kFound;
}

}  // namespace dune::ring0
