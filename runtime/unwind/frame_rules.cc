#include "runtime/unwind/frame_rules.h"

#include <string>

namespace dunebox::unwind {
namespace {

constexpr std::uint32_t kMostBytes = 64 << 10;  // of a table's entry
constexpr std::size_t kMostRemembered = 16;
constexpr std::uint8_t kIsTable = 0x3b;  // of .eh_frame_hdr: sorted pairs of 4 bytes, relative to it

// [DWARF 4 §7.23] The upper two bits, or the whole byte.
enum class Op : std::uint8_t {
  kNop = 0x00,
  kSetLocation = 0x01,
  kAdvance1 = 0x02,
  kAdvance2 = 0x03,
  kAdvance4 = 0x04,
  kOffsetExtended = 0x05,
  kRestoreExtended = 0x06,
  kUndefined = 0x07,
  kSameValue = 0x08,
  kRegister = 0x09,
  kRememberState = 0x0a,
  kRestoreState = 0x0b,
  kDefineCfa = 0x0c,
  kDefineCfaRegister = 0x0d,
  kDefineCfaOffset = 0x0e,
  kDefineCfaExpression = 0x0f,
  kExpression = 0x10,
  kOffsetExtendedSigned = 0x11,
  kDefineCfaSigned = 0x12,
  kDefineCfaOffsetSigned = 0x13,
  kValueOffset = 0x14,
  kValueOffsetSigned = 0x15,
  kValueExpression = 0x16,
  kGnuArgumentsSize = 0x2e,
};
constexpr std::uint8_t kAdvance = 1, kOffset = 2, kRestore = 3;

// A copy of an entry: of what stands behind its length.
struct Entry {
  std::uint64_t address = 0;
  std::vector<std::byte> bytes;

  static std::optional<Entry> At(ReadMemory read, std::uint64_t address) {
    std::uint32_t size = 0;
    if (!read(address, std::as_writable_bytes(std::span(&size, 1)))) return std::nullopt;
    // 0 ends the section; the largest number announces a 64-bit entry, which nobody writes.
    if (size == 0 || size > kMostBytes) return std::nullopt;
    Entry entry{.address = address + sizeof(size), .bytes = std::vector<std::byte>(size)};
    if (!read(entry.address, entry.bytes)) return std::nullopt;
    return entry;
  }
};

// What the functions of one compiler have in common.
struct Common {
  std::uint64_t code_alignment = 1;
  std::int64_t data_alignment = 1;
  std::uint8_t pointer_encoding = 0;
  bool has_augmentation = false;
  bool is_signal_frame = false;
  Entry entry;
  std::uint64_t instructions = 0;  // where in its bytes
};

std::optional<Common> ReadCommon(ReadMemory read, std::uint64_t address) {
  std::optional<Entry> entry = Entry::At(read, address);
  if (!entry) return std::nullopt;
  Common common{.entry = *std::move(entry)};
  TableReader reader(common.entry.bytes, common.entry.address);
  if (reader.Fixed<std::uint32_t>() != 0) return std::nullopt;
  const std::uint8_t version = reader.Byte();
  if (version != 1 && version != 3) return std::nullopt;
  std::string augmentation;
  for (char letter = 0; reader.ok() && (letter = static_cast<char>(reader.Byte())) != '\0';) augmentation += letter;
  common.code_alignment = reader.Unsigned();
  common.data_alignment = reader.Signed();
  const std::uint64_t return_register = version == 1 ? reader.Byte() : reader.Unsigned();
  if (return_register != kReturnAddress) return std::nullopt;
  common.has_augmentation = augmentation.starts_with('z');
  if (!common.has_augmentation && !augmentation.empty()) return std::nullopt;
  if (common.has_augmentation) {
    TableReader words(reader.Block(reader.Unsigned()), 0);
    for (const char letter : augmentation.substr(1)) {
      if (letter == 'R') common.pointer_encoding = words.Byte();
      if (letter == 'L') words.Byte();
      if (letter == 'P') words.SkipPointer(words.Byte());
      if (letter == 'S') common.is_signal_frame = true;
    }
    if (!words.ok()) return std::nullopt;
  }
  if (!reader.ok()) return std::nullopt;
  common.instructions = reader.address() - common.entry.address;
  return common;
}

// The address of the entry whose function begins last before `pc`.
std::optional<std::uint64_t> SearchTable(ReadMemory read, std::uint64_t eh_frame_hdr, std::uint64_t pc) {
  std::array<std::byte, 32> head;
  if (!read(eh_frame_hdr, head)) return std::nullopt;
  TableReader reader(head, eh_frame_hdr);
  if (reader.Byte() != 1) return std::nullopt;  // its version
  const std::uint8_t frame_encoding = reader.Byte();
  const std::uint8_t count_encoding = reader.Byte();
  if (reader.Byte() != kIsTable) return std::nullopt;
  reader.SkipPointer(frame_encoding);
  const std::uint64_t count = reader.Pointer(count_encoding, eh_frame_hdr);
  if (!reader.ok()) return std::nullopt;
  struct Pair {
    std::int32_t function, entry;
  };
  const std::uint64_t table = reader.address();
  const auto pair_at = [&](std::uint64_t index) -> std::optional<Pair> {
    Pair pair{};
    if (!read(table + index * sizeof(Pair), std::as_writable_bytes(std::span(&pair, 1)))) return std::nullopt;
    return pair;
  };
  const auto address = [&](std::int32_t offset) { return eh_frame_hdr + static_cast<std::uint64_t>(std::int64_t{offset}); };
  std::uint64_t low = 0, high = count & UINT32_MAX;
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    const std::optional<Pair> pair = pair_at(middle);
    if (!pair) return std::nullopt;
    (address(pair->function) <= pc ? low : high) = middle;
  }
  const std::optional<Pair> pair = high == 0 ? std::nullopt : pair_at(low);
  return pair ? std::optional(address(pair->entry)) : std::nullopt;
}

// Carries out instructions until they are about places behind `pc`.
class Interpreter {
 public:
  Interpreter(const Common& common, std::uint64_t start, std::uint64_t pc)
      : common_(common), place_(start), pc_(pc) {}

  bool Run(TableReader reader) {
    while (!reader.at_end() && place_ <= pc_) {
      if (!Step(reader)) return false;
    }
    return reader.ok();
  }
  // What there is now is what kRestore goes back to.
  void EndInitial() { initial_ = state_; }
  FrameRules Take() {
    state_.is_signal_frame = common_.is_signal_frame;
    return std::move(state_);
  }

 private:
  // Registers that the unwinder does not follow have a place of their own, which nobody reads.
  Rule& RuleOf(std::uint64_t number) { return number < kRegisters ? state_.rules[number] : unknown_; }

  void Advance(std::uint64_t delta) { place_ += delta * common_.code_alignment; }
  std::int64_t Factored(std::int64_t value) const {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(value) *
                                     static_cast<std::uint64_t>(common_.data_alignment));
  }
  std::int64_t FactoredUnsigned(TableReader& reader) const {
    return Factored(static_cast<std::int64_t>(reader.Unsigned()));
  }
  static std::vector<std::byte> Expression(TableReader& reader) {
    const std::span<const std::byte> block = reader.Block(reader.Unsigned());
    return {block.begin(), block.end()};
  }
  void Restore(std::uint64_t number) {
    if (number < kRegisters) state_.rules[number] = initial_.rules[number];
  }
  bool DefineCfa(std::uint64_t number, std::int64_t offset) {
    if (number >= kReturnAddress) return false;
    state_.cfa_register = static_cast<std::uint8_t>(number);
    state_.cfa_offset = offset;
    state_.cfa_expression.clear();
    return true;
  }

  bool Step(TableReader& reader) {
    const std::uint8_t byte = reader.Byte();
    const std::uint8_t low = byte & 0x3f;
    switch (byte >> 6) {
      case kAdvance:
        Advance(low);
        return true;
      case kOffset:
        RuleOf(low) = {.kind = Rule::Kind::kAt, .value = FactoredUnsigned(reader)};
        return true;
      case kRestore:
        Restore(low);
        return true;
      default:
        return StepLong(static_cast<Op>(byte), reader);
    }
  }

  bool StepLong(Op op, TableReader& reader) {
    using Kind = Rule::Kind;
    switch (op) {
      case Op::kNop:
        return true;
      case Op::kSetLocation:
        place_ = reader.Pointer(common_.pointer_encoding);
        return reader.ok();
      case Op::kAdvance1:
        Advance(reader.Byte());
        return true;
      case Op::kAdvance2:
        Advance(reader.Fixed<std::uint16_t>());
        return true;
      case Op::kAdvance4:
        Advance(reader.Fixed<std::uint32_t>());
        return true;
      case Op::kUndefined:
        RuleOf(reader.Unsigned()) = {.kind = Kind::kUndefined};
        return true;
      case Op::kSameValue:
        RuleOf(reader.Unsigned()) = {};
        return true;
      case Op::kRestoreExtended:
        Restore(reader.Unsigned());
        return true;
      case Op::kRememberState:
        if (remembered_.size() == kMostRemembered) return false;
        remembered_.push_back(state_);
        return true;
      case Op::kRestoreState:
        if (remembered_.empty()) return false;
        state_ = std::move(remembered_.back());
        remembered_.pop_back();
        return true;
      case Op::kDefineCfaRegister:
        return DefineCfa(reader.Unsigned(), state_.cfa_offset);
      case Op::kDefineCfaOffset:
        state_.cfa_offset = static_cast<std::int64_t>(reader.Unsigned());
        return true;
      case Op::kDefineCfaOffsetSigned:
        state_.cfa_offset = Factored(reader.Signed());
        return true;
      case Op::kDefineCfaExpression:
        state_.cfa_expression = Expression(reader);
        return !state_.cfa_expression.empty();
      case Op::kGnuArgumentsSize:
        reader.Unsigned();
        return true;
      case Op::kOffsetExtended:
      case Op::kRegister:
      case Op::kDefineCfa:
      case Op::kExpression:
      case Op::kOffsetExtendedSigned:
      case Op::kDefineCfaSigned:
      case Op::kValueOffset:
      case Op::kValueOffsetSigned:
      case Op::kValueExpression:
        return StepWithRegister(op, reader.Unsigned(), reader);
    }
    return false;
  }

  bool StepWithRegister(Op op, std::uint64_t number, TableReader& reader) {
    using Kind = Rule::Kind;
    switch (op) {
      case Op::kDefineCfa:
        return DefineCfa(number, static_cast<std::int64_t>(reader.Unsigned()));
      case Op::kDefineCfaSigned:
        return DefineCfa(number, Factored(reader.Signed()));
      case Op::kOffsetExtended:
        RuleOf(number) = {.kind = Kind::kAt, .value = FactoredUnsigned(reader)};
        return true;
      case Op::kOffsetExtendedSigned:
        RuleOf(number) = {.kind = Kind::kAt, .value = Factored(reader.Signed())};
        return true;
      case Op::kValueOffset:
        RuleOf(number) = {.kind = Kind::kOffset, .value = FactoredUnsigned(reader)};
        return true;
      case Op::kValueOffsetSigned:
        RuleOf(number) = {.kind = Kind::kOffset, .value = Factored(reader.Signed())};
        return true;
      case Op::kRegister:
        RuleOf(number) = {.kind = Kind::kRegister, .value = static_cast<std::int64_t>(reader.Unsigned())};
        return true;
      case Op::kExpression:
        RuleOf(number) = {.kind = Kind::kAtExpression, .expression = Expression(reader)};
        return true;
      case Op::kValueExpression:
        RuleOf(number) = {.kind = Kind::kExpression, .expression = Expression(reader)};
        return true;
      default:
        return false;
    }
  }

  const Common& common_;
  std::uint64_t place_;
  const std::uint64_t pc_;
  FrameRules state_, initial_;
  Rule unknown_;
  std::vector<FrameRules> remembered_;
};

// A function's entry, taken apart as far as its instructions.
struct Function {
  Common common;
  Entry entry;
  std::uint64_t start = 0, size = 0;
  std::uint64_t instructions = 0;  // where in the entry's bytes
};

// Nothing when it is none; a common one has 0 where others say how far it is from them.
std::optional<Function> ReadFunction(ReadMemory read, std::uint64_t address) {
  std::optional<Entry> entry = Entry::At(read, address);
  if (!entry) return std::nullopt;
  TableReader reader(entry->bytes, entry->address);
  const auto distance = reader.Fixed<std::uint32_t>();
  std::optional<Common> common = distance == 0 ? std::nullopt : ReadCommon(read, entry->address - distance);
  if (!common) return std::nullopt;
  Function function{.common = *std::move(common)};
  function.start = reader.Pointer(function.common.pointer_encoding);
  function.size = reader.Pointer(function.common.pointer_encoding & kFormatMask);
  if (function.common.has_augmentation) reader.Block(reader.Unsigned());
  if (!reader.ok()) return std::nullopt;
  function.instructions = reader.address() - entry->address;
  function.entry = *std::move(entry);
  return function;
}

std::optional<Function> SearchEntries(ReadMemory read, const FrameTable& table, std::uint64_t pc) {
  constexpr int kMostEntries = 1 << 20;
  std::uint64_t at = table.address;
  for (int count = 0; count < kMostEntries && at - table.address < table.size; ++count) {
    std::uint32_t size = 0;
    if (!read(at, std::as_writable_bytes(std::span(&size, 1))) || size == 0) return std::nullopt;
    std::optional<Function> function = ReadFunction(read, at);
    if (function && pc - function->start < function->size) return function;
    at += sizeof(size) + size;
  }
  return std::nullopt;
}

std::optional<Function> FindFunction(ReadMemory read, const FrameTable& table, std::uint64_t pc) {
  if (table.size != 0) return SearchEntries(read, table, pc);
  const std::optional<std::uint64_t> address = SearchTable(read, table.address, pc);
  std::optional<Function> function = address ? ReadFunction(read, *address) : std::nullopt;
  return function && pc - function->start < function->size ? std::move(function) : std::nullopt;
}

}  // namespace

std::optional<FrameRules> FindRules(ReadMemory read, const FrameTable& table, std::uint64_t pc) {
  const std::optional<Function> function = FindFunction(read, table, pc);
  if (!function) return std::nullopt;
  const auto instructions = [](const Entry& entry, std::uint64_t from) {
    return TableReader(std::span(entry.bytes).subspan(from), entry.address + from);
  };
  const Common& common = function->common;
  Interpreter interpreter(common, function->start, pc);
  if (!interpreter.Run(instructions(common.entry, common.instructions))) return std::nullopt;
  interpreter.EndInitial();
  if (!interpreter.Run(instructions(function->entry, function->instructions))) return std::nullopt;
  return interpreter.Take();
}

}  // namespace dunebox::unwind
