// Feeds arbitrary bytes to the ELF parser and holds every accepted image to
// what the loader relies on when it maps one.
//
// The input is a file twice: exactly as long as it is (truncation), and as the
// start of a long file of zeros, so that the head of a real program is a seed.
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "runtime/loader/elf_image.h"

namespace dunebox::loader {
namespace {

constexpr std::uint64_t kLongFile = 64 << 20;
constexpr GuestRange kWholeProgram = {{0x1'0000}, {0x4000'0000'0000}};
constexpr GuestRange kEmbedded = {{0x1'0000}, {0x1'0000'0000}};

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "accepted image violates: %s\n", what);
  std::abort();
}

bool IsInside(std::uint64_t start, std::uint64_t size, std::uint64_t limit) {
  return start <= limit && size <= limit - start;
}

void CheckSegment(const LoadSegment& segment, const ElfImage& image, std::uint64_t file_size) {
  Require(segment.memory_size > 0, "no segment is empty");
  Require(segment.file_size <= segment.memory_size, "file size <= memory size");
  Require(segment.end() > segment.vaddr, "addresses do not wrap");
  Require(segment.vaddr >= image.span.start && segment.end() <= image.span.end, "inside span");
  Require((segment.protection & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) == 0, "known rights only");
  if (segment.file_size == 0) return;
  Require(segment.vaddr % kPageSize == segment.file_offset % kPageSize, "congruent in a page");
  Require(IsInside(segment.file_offset, segment.file_size, PageUp(file_size)), "inside the file");
}

// The lowest load address of the right alignment must leave room for the whole span.
void CheckPlacement(const ElfImage& image, const GuestRange& window) {
  std::uint64_t start = image.span.start;
  if (image.kind == ElfKind::kPositionIndependent) {
    const std::uint64_t mask = image.alignment - 1;
    start = window.start.value + ((image.span.start - window.start.value) & mask);
  }
  Require(start >= window.start.value, "at or above the window's start");
  Require(IsInside(start, image.span.size(), window.end.value), "below the window's end");
}

void CheckImage(const ElfImage& image, std::uint64_t file_size, const GuestRange& window) {
  Require(!image.segments.empty(), "a segment");
  Require(IsPageAligned(image.span.start) && IsPageAligned(image.span.end), "span of pages");
  Require(std::has_single_bit(image.alignment) && image.alignment >= kPageSize, "alignment");
  Require(image.interpreter.find('\0') == std::string::npos, "interpreter is a C string");
  Require(image.interpreter.size() < 4096, "interpreter path is short");
  bool is_entry_executable = false;
  std::uint64_t previous_end = 0;
  for (const LoadSegment& segment : image.segments) {
    CheckSegment(segment, image, file_size);
    Require(segment.vaddr >= previous_end, "ascending and disjoint");
    previous_end = segment.end();
    is_entry_executable |= (segment.protection & PROT_EXEC) != 0 &&
                           image.entry >= PageDown(segment.vaddr) &&
                           image.entry < PageUp(segment.end());
  }
  Require(is_entry_executable, "executable entry");
  CheckPlacement(image, window);
}

void Parse(const ByteSource& source, const GuestRange& window) {
  const absl::StatusOr<ElfImage> image = ParseElf(source, window);
  if (image.ok()) return CheckImage(*image, source.size, window);
  Require(image.status().code() == absl::StatusCode::kFailedPrecondition, "ENOEXEC, not I/O");
  Require(!image.status().message().empty(), "a reason");
}

void ReadWithZeros(std::span<const std::byte> head, std::uint64_t offset, std::span<std::byte> to) {
  std::ranges::fill(to, std::byte{0});
  if (offset >= head.size()) return;
  const std::size_t count = std::min<std::size_t>(to.size(), head.size() - offset);
  std::ranges::copy(head.subspan(offset, count), to.begin());
}

void ParseAll(std::span<const std::byte> bytes) {
  const ByteSource long_file = {.size = kLongFile,
                                .read = [bytes](std::uint64_t offset, std::span<std::byte> to) {
                                  Require(IsInside(offset, to.size(), kLongFile), "bounded read");
                                  ReadWithZeros(bytes, offset, to);
                                  return true;
                                }};
  Parse(MemoryBytes(bytes), kWholeProgram);
  Parse(long_file, kWholeProgram);
  Parse(long_file, kEmbedded);
}

}  // namespace
}  // namespace dunebox::loader

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  dunebox::loader::ParseAll(std::as_bytes(std::span(data, size)));
  return 0;
}
