#include "runtime/jit/dump.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/diagnostics.h"
#include "runtime/jit/block_names.h"

namespace dunebox::runtime {
namespace {

constexpr std::size_t kLongestInstruction = 15;
constexpr int kBytesWidth = 30;  // ten bytes; longer ones push the rest to the right

// A host instruction: what it is, and whose work it does.
struct HostLine {
  std::uint64_t address;
  std::vector<std::uint8_t> bytes;
  jit::Instruction instruction;
  std::optional<std::uint64_t> guest;  // the guest instruction it is part of
  std::string target;                  // of a direct jump
};

// A block as it was while the cache stood still.
struct Copied {
  jit::CodeBlock block;
  std::vector<HostLine> lines;
};

const char* ClassName(jit::Class klass) {
  switch (klass) {
    case jit::Class::kCopy:
      return "copy";
    case jit::Class::kJump:
      return "jump";
    case jit::Class::kBranch:
      return "branch";
    case jit::Class::kCall:
      return "call";
    case jit::Class::kJumpIndirect:
      return "jump*";
    case jit::Class::kCallIndirect:
      return "call*";
    case jit::Class::kReturn:
      return "return";
    case jit::Class::kSystemCall:
      return "syscall";
    case jit::Class::kEmulate:
      return "emulate";
    case jit::Class::kTrap:
      return "trap";
    case jit::Class::kRefuse:
      return "refuse";
  }
  return "";
}

std::string Hex(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) absl::StrAppendFormat(&text, "%02x ", byte);
  return text;
}

// Where a patched or plain jump of the block's code leads.
std::string TargetOf(const jit::CodeCache& cache, const jit::CodeBlock& own, const HostLine& line) {
  const jit::Class klass = line.instruction.klass;
  if (klass != jit::Class::kJump && klass != jit::Class::kBranch) return {};
  const std::uint64_t target = line.address + line.bytes.size() +
                               static_cast<std::uint64_t>(std::int64_t{line.instruction.relative});
  const std::uint32_t id = cache.BlockAt(target);
  if (id == jit::kNone) return target >= cache.code_end() ? "exit stub" : "?";
  const jit::CodeBlock& block = cache.block(id);
  if (block.host == own.host) return absl::StrFormat("host %x", target);
  return absl::StrFormat("guest %x", block.pc);
}

std::optional<std::uint64_t> GuestOf(const jit::CodeCache& cache, const jit::CodeBlock& block,
                                     std::uint64_t host) {
  const std::optional<jit::Recovered> recovered = cache.Recover(host);
  if (!recovered || recovered->kind == jit::RecoveryKind::kInR11) return std::nullopt;
  if (recovered->pc - block.pc >= block.guest_length) return std::nullopt;
  return recovered->pc;
}

Copied CopyBlock(const jit::CodeCache& cache, std::uint32_t id) {
  Copied copied{.block = cache.block(id), .lines = {}};
  const std::uint64_t start = cache.StartOf(id);
  // Executable memory is readable.
  const std::span code(reinterpret_cast<const std::uint8_t*>(start), copied.block.host_length);
  for (std::size_t at = 0; at < code.size();) {
    HostLine line{.address = start + at};
    const std::span rest = code.subspan(at);
    (void)jit::Decode(rest.first(std::min(rest.size(), kLongestInstruction)), line.instruction);
    const std::size_t length = std::clamp<std::size_t>(line.instruction.length, 1, rest.size());
    line.bytes.assign(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(length));
    line.guest = GuestOf(cache, copied.block, line.address);
    line.target = TargetOf(cache, copied.block, line);
    at += length;
    copied.lines.push_back(std::move(line));
  }
  return copied;
}

std::vector<Copied> CopyBlocksWith(jit::Translator& translator, std::uint64_t address) {
  std::vector<Copied> result;
  translator.Inspect([&](const jit::CodeCache& cache) {
    for (std::uint32_t id = 0; id < cache.size(); ++id) {
      const jit::CodeBlock& block = cache.block(id);
      if (address - block.pc < block.guest_length) result.push_back(CopyBlock(cache, id));
    }
  });
  return result;
}

// The guest's half of a line: the instruction as it is in memory now.
std::string GuestColumn(const memory::AddressSpace& space, std::uint64_t pc) {
  std::array<std::uint8_t, kLongestInstruction> bytes;
  std::size_t have = 0;
  while (
      have < bytes.size() &&
      space.memory().Read(pc + have, std::as_writable_bytes(std::span(bytes).subspan(have, 1)))) {
    ++have;
  }
  jit::Instruction instruction;
  if (have == 0 ||
      jit::Decode(std::span(bytes).first(have), instruction) == jit::DecodeStatus::kTruncated) {
    return absl::StrFormat("guest %12x gone    %-*s", pc, kBytesWidth, "");
  }
  return absl::StrFormat("guest %12x %-7s %-*s", pc, ClassName(instruction.klass), kBytesWidth,
                         Hex(std::span(bytes).first(instruction.length)));
}

std::string FormatBlock(const Copied& copied, const memory::AddressSpace& space) {
  const jit::CodeBlock& block = copied.block;
  std::string text = absl::StrFormat(
      "dump: block at %s, guest 0x%x, %d bytes; host 0x%x, %d bytes; %s entry%s\n",
      PlaceName(space, block.pc), block.pc, block.guest_length,
      copied.lines.empty() ? 0 : copied.lines.front().address, block.host_length,
      block.kind == jit::EntryKind::kDirect ? "direct" : "indirect",
      block.dead ? "; invalidated, so that the guest's bytes may be others now" : "");
  const std::string blank = absl::StrFormat("%*s", 6 + 12 + 1 + 7 + 1 + kBytesWidth, "");
  std::optional<std::uint64_t> shown;
  for (const HostLine& line : copied.lines) {
    const bool is_new = line.guest && (!shown || *line.guest > *shown);
    if (is_new) shown = line.guest;
    absl::StrAppend(&text, "dump: ", is_new ? GuestColumn(space, *line.guest) : blank,
                    absl::StrFormat("| host %12x %-7s %s", line.address,
                                    ClassName(line.instruction.klass), Hex(line.bytes)));
    if (!line.target.empty()) absl::StrAppend(&text, "-> ", line.target);
    absl::StrAppend(&text, "\n");
  }
  return text;
}

// The guest addresses that are meant: several when a file is mapped more than once.
std::vector<std::uint64_t> AddressesOf(const memory::AddressSpace& space, const CodePlace& place) {
  if (place.file.empty()) return {place.offset};
  std::vector<std::uint64_t> result;
  space.ForEachVma([&](const memory::Vma& vma) {
    if (vma.backing == nullptr || BaseName(vma.backing->name) != place.file) return true;
    const std::uint64_t from_start = place.offset - vma.offset;
    if (from_start < vma.range.size()) result.push_back(vma.range.start.value + from_start);
    return true;
  });
  return result;
}

}  // namespace

std::string DumpBlocks(jit::Translator& translator, const memory::AddressSpace& space,
                       const std::string& place) {
  const std::optional<CodePlace> parsed = CodePlace::Parse(place);
  std::string text;
  if (parsed) {
    for (const std::uint64_t address : AddressesOf(space, *parsed)) {
      for (const Copied& copied : CopyBlocksWith(translator, address)) {
        text += FormatBlock(copied, space);
      }
    }
  }
  return text.empty() ? absl::StrCat("dump: no block has ", place, " in it\n") : text;
}

}  // namespace dunebox::runtime
