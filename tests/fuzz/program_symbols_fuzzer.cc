// Feeds arbitrary bytes to what reads a static program's names. What is accepted has each name once, in order, and
// no address outside of the program's segments; and every read is within the file.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

#include "runtime/loader/program_symbols.h"

namespace dunebox::loader {
namespace {

constexpr GuestRange kWindow = {{0x1'0000}, {0x1'0000'0000}};

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "accepted symbols violate: %s\n", what);
  std::abort();
}

void CheckSymbols(const ProgramSymbols& symbols, const ElfImage& image) {
  std::string_view previous;
  for (const ProgramSymbol& symbol : symbols.symbols) {
    Require(symbol.name <= symbols.names.size() && symbol.length <= symbols.names.size() - symbol.name,
            "a name is among the names");
    const std::string_view name = symbols.NameOf(symbol);
    Require(!name.empty() && name.find('\0') == std::string_view::npos, "a name is some text");
    Require(previous.size() < name.size() || (previous.size() == name.size() && previous < name),
            "by length, then as text, each once");
    previous = name;
    bool is_inside = false;
    for (const LoadSegment& segment : image.segments) {
      is_inside |= symbol.address >= segment.vaddr && symbol.address < segment.end();
    }
    Require(is_inside, "an address is in a segment");
    const ProgramSymbol* const found = symbols.Find(name);
    Require(found == &symbol, "what is there is found");
  }
  Require(symbols.Find("no such name") == nullptr || symbols.NameOf(*symbols.Find("no such name")) == "no such name",
          "and nothing else is");
}

void Read(std::span<const std::byte> bytes) {
  const ByteSource memory = MemoryBytes(bytes);
  const ByteSource source = {.size = memory.size,
                             .read = [&](std::uint64_t offset, std::span<std::byte> to) {
                               Require(offset <= memory.size && to.size() <= memory.size - offset,
                                       "reads are within the file");
                               return memory.read(offset, to);
                             }};
  const absl::StatusOr<ElfUse> use = UseOf(source);
  Require(use.ok() || use.status().code() == absl::StatusCode::kFailedPrecondition, "no I/O error");
  const absl::StatusOr<ElfImage> image = ParseElf(source, kWindow);
  if (!image.ok()) return;
  const absl::StatusOr<ProgramSymbols> symbols = ReadProgramSymbols(source, *image);
  if (symbols.ok()) return CheckSymbols(*symbols, *image);
  Require(symbols.status().code() == absl::StatusCode::kFailedPrecondition, "no I/O error");
  Require(!symbols.status().message().empty(), "a reason");
}

}  // namespace
}  // namespace dunebox::loader

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  dunebox::loader::Read(std::as_bytes(std::span(data, size)));
  return 0;
}
