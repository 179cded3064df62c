#include "jit-fallback/decode/opcode_table.h"

#include <string_view>

namespace dunebox::jit {
namespace {

// Not constexpr: reaching it while the table is built is a compile error that shows the line.
void MalformedLine() {}

struct OperationName {
  std::string_view name;
  Class klass;
  Operation operation;
};

constexpr OperationName kOperations[] = {
    {"jump", Class::kJump, Operation::kOther},
    {"jcc", Class::kBranch, Operation::kJcc},
    {"loop", Class::kBranch, Operation::kLoop},
    {"loope", Class::kBranch, Operation::kLoope},
    {"loopne", Class::kBranch, Operation::kLoopne},
    {"jrcxz", Class::kBranch, Operation::kJrcxz},
    {"call", Class::kCall, Operation::kOther},
    {"jump_indirect", Class::kJumpIndirect, Operation::kOther},
    {"call_indirect", Class::kCallIndirect, Operation::kOther},
    {"return", Class::kReturn, Operation::kOther},
    {"system_call", Class::kSystemCall, Operation::kOther},
    {"lea", Class::kCopy, Operation::kLea},
    {"push_segment", Class::kEmulate, Operation::kPushSegment},
    {"pop_flags", Class::kEmulate, Operation::kPopFlags},
    {"xsave_family", Class::kCopy, Operation::kXsaveFamily},
    {"xgetbv", Class::kCopy, Operation::kXgetbv},
    {"rdtsc", Class::kCopy, Operation::kRdtsc},
    {"rdtscp", Class::kCopy, Operation::kRdtscp},
    {"rdpid", Class::kCopy, Operation::kRdpid},
    {"string", Class::kCopy, Operation::kStringNoRep},
    {"mask_move", Class::kCopy, Operation::kMaskMove},
    {"xlat", Class::kCopy, Operation::kXlat},
    {"movdir64b", Class::kCopy, Operation::kMovdir64b},
    {"enqcmd", Class::kCopy, Operation::kEnqcmd},
    {"clzero", Class::kCopy, Operation::kClzero},
    {"monitor", Class::kCopy, Operation::kMonitor},
    {"gather_scatter", Class::kCopy, Operation::kGatherScatter},
    {"tile_memory", Class::kCopy, Operation::kTileMemory},
    {"enter", Class::kCopy, Operation::kEnter},
    {"leave", Class::kCopy, Operation::kLeave},
    {"rd_fs_gs_base", Class::kCopy, Operation::kRdFsGsBase},
    {"wr_fs_base", Class::kCopy, Operation::kWrFsBase},
    {"x87_environment", Class::kCopy, Operation::kX87Environment},
    {"cpuid", Class::kEmulate, Operation::kCpuid},
    {"read_gs_base", Class::kEmulate, Operation::kReadGsBase},
    {"write_gs_base", Class::kEmulate, Operation::kWriteGsBase},
    {"move_from_segment", Class::kEmulate, Operation::kMoveFromSegment},
    {"move_to_segment", Class::kEmulate, Operation::kMoveToSegment},
    {"pop_segment", Class::kEmulate, Operation::kPopSegment},
    {"load_far", Class::kEmulate, Operation::kLoadFarPointer},
    {"jump_far", Class::kEmulate, Operation::kJumpFar},
    {"call_far", Class::kEmulate, Operation::kCallFar},
    {"return_far", Class::kEmulate, Operation::kReturnFar},
    {"interrupt_return", Class::kEmulate, Operation::kInterruptReturn},
    {"write_pkru", Class::kEmulate, Operation::kWritePkru},
    {"read_pkru", Class::kEmulate, Operation::kReadPkru},
    {"xbegin", Class::kEmulate, Operation::kXbegin},
    {"xabort", Class::kEmulate, Operation::kXabort},
    {"xtest", Class::kEmulate, Operation::kXtest},
    {"xend", Class::kEmulate, Operation::kXend},
    {"int3", Class::kTrap, Operation::kInt3},
    {"int_n", Class::kTrap, Operation::kIntN},
    {"int1", Class::kTrap, Operation::kInt1},
    {"ud", Class::kTrap, Operation::kUd},
    {"privileged", Class::kTrap, Operation::kPrivileged},
    {"sysenter", Class::kTrap, Operation::kSysenter},
    {"virtualization", Class::kTrap, Operation::kVirtualization},
};

struct TagName {
  std::string_view name;
  std::uint32_t tags;
};

constexpr TagName kTags[] = {
    {"lock", tag::kLock},
    {"f=", tag::kOverwritesFlags},
    {"f?", tag::kReadsFlags},
    {"zero", tag::kZero | tag::kSpecial},
    {"nop", tag::kNop | tag::kSpecial},
    {"rep", tag::kString | tag::kSpecial},
    {"string", tag::kString | tag::kSpecial},
    {"k", tag::kMask},
    {"k!", tag::kMask | tag::kMaskNeeded},
    {"z", tag::kZeroing},
    {"bc", tag::kBroadcast},
    {"er", tag::kRounding},
    {"sae", tag::kSuppress},
    {"distinct", tag::kDistinct | tag::kSpecial},
};

constexpr std::string_view kRegisterNames[] = {"ax", "cx", "dx", "bx", "sp",  "bp",
                                               "si", "di", "r8", "r9", "r10", "r11"};

constexpr struct {
  std::string_view name;
  Immediate immediate;
} kImmediates[] = {
    {"Ib", Immediate::kByte},       {"Ibb", Immediate::kTwoBytes},
    {"Iw", Immediate::kWord},       {"Ie", Immediate::kEnter},
    {"Iz", Immediate::kByOperand},  {"Iv", Immediate::kByOperandFull},
    {"Jb", Immediate::kBranchByte}, {"Jz", Immediate::kBranch},
};

constexpr std::string_view kPrefixNames[] = {"np", "66", "f3", "f2"};

// Takes what precedes `separator` off the front of `text`.
constexpr std::string_view Take(std::string_view& text, char separator) {
  const std::size_t end = text.find(separator);
  const std::string_view head = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  return head;
}

constexpr unsigned ParseHex(std::string_view text) {
  if (text.empty()) MalformedLine();
  unsigned value = 0;
  for (const char c : text) {
    if (c >= '0' && c <= '9') {
      value = value * 16 + static_cast<unsigned>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      value = value * 16 + static_cast<unsigned>(c - 'a' + 10);
    } else {
      MalformedLine();
    }
  }
  return value;
}

// Calls `each` with every number of "1,4-6".
template <typename Each>
constexpr void ForEachNumber(std::string_view list, Each each) {
  while (!list.empty()) {
    std::string_view last = Take(list, ',');
    const unsigned from = ParseHex(Take(last, '-'));
    const unsigned to = last.empty() ? from : ParseHex(last);
    for (unsigned number = from; number <= to; ++number) each(number);
  }
}

constexpr std::uint8_t ParseSet(std::string_view list) {
  unsigned set = 0;
  ForEachNumber(list, [&set](unsigned number) { set |= 1u << number; });
  return static_cast<std::uint8_t>(set);
}

enum class Space : std::uint8_t { kLegacy, kVex, kEvex };

// One line of text.
struct Line {
  Form form;
  std::array<std::uint8_t, 4> prefix_widths{};  // per mandatory prefix; 0: not named
  bool has_lengths = false;

  constexpr void Parse(std::string_view text) {
    while (!text.empty()) {
      const std::string_view word = Take(text, ' ');
      if (!word.empty()) ParseWord(word);
    }
  }

 private:
  constexpr void ParseWord(std::string_view word) {
    if (ParsePrefix(word) || ParseConstraint(word) || ParseImmediate(word)) return;
    if (word[0] >= 'A' && word[0] <= 'Z') return ParseOperand(word);
    if (!ParseProperty(word) && !ParseImplicit(word)) MalformedLine();
  }

  constexpr bool ParsePrefix(std::string_view word) {
    for (std::size_t i = 0; i < 4; ++i) {
      if (word.substr(0, 2) != kPrefixNames[i]) continue;
      const std::uint8_t widths = word.size() == 2 ? 3 : word.substr(2) == ".0" ? 1 : 2;
      prefix_widths[i] = static_cast<std::uint8_t>(prefix_widths[i] | widths);
      return true;
    }
    return false;
  }

  constexpr bool ParseConstraint(std::string_view word) {
    if (word[0] == '/') {
      form.regs = ParseSet(word.substr(1));
      form.tags |= tag::kModrm;
    } else if (word.size() > 2 && word.substr(0, 2) == "rm") {
      form.rms = ParseSet(word.substr(2));
    } else if (word == "mod3") {
      form.mods = 2;
    } else if (word == "LIG") {
      has_lengths = true;
      form.lengths = 7;
    } else if (word[0] == 'L') {
      has_lengths = true;
      form.lengths = 0;
      for (const char c : word.substr(1)) {
        form.lengths = static_cast<std::uint8_t>(form.lengths | 1u << (c - '0'));
      }
    } else {
      return false;
    }
    return true;
  }

  constexpr bool ParseImmediate(std::string_view word) {
    for (const auto& [name, immediate] : kImmediates) {
      if (word != name) continue;
      form.immediate = immediate;
      return true;
    }
    return false;
  }

  static constexpr Kind GeneralKind(char size) {
    switch (size) {
      case 'b':
        return Kind::kByte;
      case 'w':
        return Kind::kWord;
      case 'v':
        return Kind::kGeneral;
      case 'y':
      case 'd':
      case 'q':
        return Kind::kFull;
      default:
        MalformedLine();
        return Kind::kNone;
    }
  }

  constexpr void SetRm(Kind kind, Access access, unsigned mods) {
    form.rm = Operand::Make(kind, access);
    form.mods = static_cast<std::uint8_t>(form.mods == 0 ? mods : form.mods & mods);
    form.tags |= tag::kModrm;
  }
  constexpr void SetReg(Kind kind, Access access) {
    form.reg = Operand::Make(kind, access);
    form.tags |= tag::kModrm;
  }

  constexpr void ParseOperand(std::string_view word) {
    Access access = Access::kRead;
    if (word.back() == '+') access = Access::kReadWrite;
    if (word.back() == '!') access = Access::kWrite;
    if (word.back() == '~') access = Access::kNone;
    if (access != Access::kRead) word.remove_suffix(1);
    const char letter = word[0];
    const char second = word.size() > 1 ? word[1] : '\0';
    constexpr unsigned kMemory = 1, kRegister = 2, kEither = 3;
    switch (letter) {
      case 'E':
        return SetRm(GeneralKind(second), access, kEither);
      case 'R':
        return SetRm(GeneralKind(second), access, kRegister);
      case 'M':
        return SetRm(Kind::kOther, access, kMemory);
      case 'W':
        return SetRm(Kind::kVector, access, kEither);
      case 'U':
        return SetRm(Kind::kVector, access, kRegister);
      case 'Q':
        return SetRm(Kind::kMmx, access, kEither);
      case 'N':
        return SetRm(Kind::kMmx, access, kRegister);
      case 'F':
        return SetRm(Kind::kOther, access, kRegister);
      case 'X':
        form.tags |= tag::kVectorIndex | tag::kSpecial;
        [[fallthrough]];
      case 'Y':
        form.rms = 1 << 4;
        return SetRm(Kind::kOther, access, kMemory);
      case 'G':
        return SetReg(GeneralKind(second), access);
      case 'V':
        return SetReg(Kind::kVector, access);
      case 'P':
        return SetReg(Kind::kMmx, access);
      case 'S':
        return SetReg(Kind::kSegment, access);
      case 'C':
        form.tags |= tag::kSpecial;
        return SetReg(Kind::kControl, access);
      case 'D':
        form.tags |= tag::kSpecial;
        return SetReg(Kind::kDebug, access);
      case 'B':
        form.vvvv = Operand::Make(GeneralKind(second), access);
        return;
      case 'H':
        form.vvvv = Operand::Make(Kind::kVector, access);
        return;
      case 'Z':
        form.rm = Operand::Make(GeneralKind(second), access);
        return;
      case 'O':
        form.immediate = Immediate::kOffset;
        form.rm = Operand::Make(Kind::kOther, access);
        form.tags |= tag::kSpecial;
        return;
      case 'K':
      case 'T': {
        const Kind kind = letter == 'K' ? Kind::kMask : Kind::kTile;
        if (second == 'r') return SetReg(kind, access);
        if (second == 'e') return SetRm(kind, access, kEither);
        if (second == 'u') return SetRm(kind, access, kRegister);
        if (kind == Kind::kTile) form.tags |= tag::kSpecial;
        form.vvvv = Operand::Make(kind, access);
        return;
      }
      default:
        MalformedLine();
    }
  }

  constexpr bool ParseProperty(std::string_view word) {
    bool found = false;
    for (const TagName& known : kTags) {
      if (word != known.name) continue;
      form.tags |= known.tags;
      found = true;
    }
    for (const OperationName& known : kOperations) {
      if (word != known.name) continue;
      form.klass = known.klass;
      form.operation = known.operation;
      found = true;
    }
    return found;
  }

  constexpr bool ParseImplicit(std::string_view word) {
    const bool sized = word.back() == '=';
    const bool written = word.back() == '!' || sized;
    if (written) word.remove_suffix(1);
    for (unsigned i = 0; i < std::size(kRegisterNames); ++i) {
      if (word != kRegisterNames[i]) continue;
      form.implicit |= 1u << (written ? i + kOverwrittenShift : i);
      if (sized) form.tags |= tag::kSizedWrite | tag::kSpecial;
      return true;
    }
    return false;
  }
};

class Builder {
 public:
  constexpr void Add(std::string_view text) {
    while (!text.empty()) {
      std::string_view line = Take(text, '\n');
      if (line.empty() || line[0] == '#') continue;
      if (line[0] == '@') {
        StartSection(line.substr(2));
      } else {
        AddLine(line);
      }
    }
  }

  OpcodeTable table{};

 private:
  constexpr void StartSection(std::string_view line) {
    const std::string_view name = Take(line, ' ');
    map_ = ParseHex(line);
    space_ = name == "legacy" ? Space::kLegacy : name == "vex" ? Space::kVex : Space::kEvex;
  }

  constexpr unsigned Group(unsigned prefix) const {
    switch (space_) {
      case Space::kLegacy:
        return map_ == 0 ? 0 : kLegacyGroup + 4 * (map_ - 1) + prefix;
      case Space::kVex:
        return kVexGroup + 4 * (map_ - 1) + prefix;
      case Space::kEvex:
        return kEvexMapGroup[map_] + prefix;
    }
    return 0;
  }

  constexpr void AddLine(std::string_view text) {
    const std::string_view opcodes = Take(text, ' ');
    Line line;
    line.Parse(text);
    if (line.form.mods == 0) line.form.mods = 3;
    if (line.form.klass >= Class::kEmulate) line.form.tags |= tag::kReadsFlags;
    const auto if_general = [](Operand operand, std::uint8_t field) {
      return operand.IsWideGeneral() ? field : std::uint8_t{0};
    };
    line.form.general = if_general(line.form.reg, Instruction::kReg) |
                        if_general(line.form.rm, Instruction::kRm) |
                        if_general(line.form.vvvv, Instruction::kVvvv);
    const auto if_byte = [](Operand operand, std::uint8_t field) {
      return operand.IsGeneral() && operand.IsByte() ? field : std::uint8_t{0};
    };
    line.form.general_byte = if_byte(line.form.reg, Instruction::kReg) |
                             if_byte(line.form.rm, Instruction::kRm);
    if (!line.has_lengths && space_ == Space::kVex) line.form.lengths = 3;
    if (!line.has_lengths && space_ == Space::kEvex) line.form.lengths = 7;
    std::array<std::uint8_t, 4> widths = line.prefix_widths;
    if (widths == std::array<std::uint8_t, 4>{}) {
      if (space_ != Space::kLegacy) MalformedLine();
      widths = {3, 3, 3, 3};
    }
    for (unsigned prefix = 0; prefix < (map_ == 0 ? 1 : 4); ++prefix) {
      if (widths[prefix] == 0) continue;
      line.form.widths = widths[prefix];
      if (IsConstrained(line.form)) line.form.tags |= tag::kConstrained;
      ForEachNumber(
          opcodes, [&](unsigned opcode) { Append(table.first[Group(prefix)][opcode], line.form); });
    }
  }

  constexpr bool IsConstrained(const Form& form) const {
    const unsigned lengths = space_ == Space::kEvex ? 0xf : space_ == Space::kVex ? 3 : 1;
    return form.mods != 3 || form.regs != 0xff || form.rms != 0xff || form.widths != 3 ||
           (form.lengths & lengths) != lengths;
  }

  constexpr void Append(std::uint16_t& first, const Form& form) {
    std::uint16_t* link = &first;
    while (*link != 0) {
      table.forms[*link].tags |= tag::kConstrained;  // so that the next is looked at
      link = &table.forms[*link].next;
    }
    *link = table.count;
    table.forms[table.count++] = form;
  }

  Space space_ = Space::kLegacy;
  unsigned map_ = 0;
};

constexpr OpcodeTable BuildTable() {
  Builder builder;
  builder.Add(
#include "jit-fallback/decode/opcodes_one_byte.inc"
  );
  builder.Add(
#include "jit-fallback/decode/opcodes_0f.inc"
  );
  builder.Add(
#include "jit-fallback/decode/opcodes_0f38.inc"
  );
  builder.Add(
#include "jit-fallback/decode/opcodes_vex.inc"
  );
  builder.Add(
#include "jit-fallback/decode/opcodes_evex.inc"
  );
  return builder.table;
}

}  // namespace

constexpr OpcodeTable kOpcodes = BuildTable();

}  // namespace dunebox::jit
