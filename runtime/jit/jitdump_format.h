// The format in which perf takes code that a program has made at run time. [linux]
// tools/perf/Documentation/jitdump-specification.txt
//
// A file is a FileHeader and records one behind the other, in the order of their times; a record is a
// RecordHeader and what belongs to its id. All numbers are little-endian here.
#ifndef DUNEBOX_RUNTIME_JIT_JITDUMP_FORMAT_H_
#define DUNEBOX_RUNTIME_JIT_JITDUMP_FORMAT_H_

#include <cstdint>

namespace dunebox::jitdump {

inline constexpr std::uint32_t kMagic = 0x4A69'5444;  // "JiTD"
inline constexpr std::uint32_t kVersion = 1;

struct FileHeader {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint32_t size;     // of this header
  std::uint32_t machine;  // as in ELF files
  std::uint32_t zero;
  std::uint32_t pid;
  std::uint64_t time;  // CLOCK_MONOTONIC, nanoseconds; so is every other
  std::uint64_t flags;
};
static_assert(sizeof(FileHeader) == 40);

enum class RecordId : std::uint32_t { kCodeLoad = 0, kCodeClose = 3 };

struct RecordHeader {
  RecordId id;
  std::uint32_t size;  // of all of the record
  std::uint64_t time;
};
static_assert(sizeof(RecordHeader) == 16);

// kCodeLoad: this, a name with its NUL, and the code.
struct CodeLoad {
  std::uint32_t pid, tid;
  std::uint64_t virtual_address;
  std::uint64_t code_address;
  std::uint64_t code_size;
  std::uint64_t index;  // unlike every other's in the file
};
static_assert(sizeof(CodeLoad) == 40);

}  // namespace dunebox::jitdump

#endif  // DUNEBOX_RUNTIME_JIT_JITDUMP_FORMAT_H_
