#include "tests/jit/generator.h"

#include <sys/syscall.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "jit-fallback/emit/assembler.h"
#include "jit-fallback/emit/seg_stack.h"

namespace dunebox::jit {
namespace {

constexpr unsigned kEndUnits = 1;
constexpr std::uint64_t kPointersSize = 0x1000;
constexpr std::uint64_t kTableDistance = 0x1'0000;  // targets so far apart share a table entry
constexpr std::uint64_t kStackReserve = 0x800;
constexpr std::uint16_t kRspBit = 1U << kRsp;

// bt, bts, btr, btc with a bit number in a register, which adds to the address.
bool IsBitString(const Instruction& instruction) {
  return instruction.encoding == Encoding::kLegacy && instruction.opcode_map == 1 &&
         (instruction.opcode & 0xe7) == 0xa3;
}

}  // namespace

// ---- Sequence -----------------------------------------------------------------------------------

void Sequence::WriteTo(Arena& arena) const {
  for (const Chunk& chunk : chunks) arena.WriteCode(chunk.address, chunk.bytes);
}

std::string Sequence::Dump() const {
  std::string text = absl::StrCat("entry ", absl::Hex(entry), "\n");
  for (const Chunk& chunk : chunks) {
    absl::StrAppend(&text, absl::Hex(chunk.address), ":");
    for (const std::uint8_t byte : chunk.bytes) {
      absl::StrAppend(&text, " ", absl::Hex(byte, absl::kZeroPad2));
    }
    absl::StrAppend(&text, "\n");
  }
  return text;
}

// ---- Unsupported --------------------------------------------------------------------------------

std::uint32_t Unsupported::KeyOf(const Instruction& instruction) {
  const unsigned prefix = instruction.repne ? 3U : instruction.rep ? 2U : instruction.operand_size;
  const bool is_vector = instruction.encoding != Encoding::kLegacy;
  const unsigned pp = is_vector || instruction.opcode_map != 0 ? prefix : 0U;
  const bool is_wide = is_vector && (instruction.rex & 8) != 0;
  return instruction.opcode | (unsigned{instruction.opcode_map} << 8U) |
         (static_cast<unsigned>(instruction.encoding) << 12U) | (pp << 16U) |
         ((instruction.modrm & 0x38U) << 20U) | (unsigned{is_wide} << 28U);
}

bool Unsupported::IsLikely(const Instruction& instruction) const {
  constexpr unsigned kSure = 2;
  const auto found = counts_.find(KeyOf(instruction));
  return found != counts_.end() && found->second >= kSure;
}

void Unsupported::Count(const Instruction& instruction) { ++counts_[KeyOf(instruction)]; }

// ---- bytes --------------------------------------------------------------------------------------

void Generator::Put(std::initializer_list<unsigned> bytes) {
  for (const unsigned byte : bytes) code_.push_back(static_cast<std::uint8_t>(byte));
}

void Generator::Put32(std::uint32_t value) {
  for (unsigned i = 0; i < 4; ++i) code_.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

void Generator::Put64(std::uint64_t value) {
  Put32(static_cast<std::uint32_t>(value));
  Put32(static_cast<std::uint32_t>(value >> 32));
}

void Generator::PutMove(unsigned reg, std::uint64_t value) {
  ++instructions_;
  const unsigned high = reg >> 3, low = reg & 7;
  if (FitsSigned32(value) && Happens(50)) {
    Put({0x48 | high, 0xc7, 0xc0 | low});
    Put32(static_cast<std::uint32_t>(value));
  } else if (value <= 0xffff'ffff) {
    Put({0x40 | high, 0xb8 | low});
    Put32(static_cast<std::uint32_t>(value));
  } else {
    Put({0x48 | high, 0xb8 | low});
    Put64(value);
  }
}

void Generator::PutRelative(unsigned label, FixKind kind) {
  fixes_.push_back({code_.size(), label, kind});
  if (kind == FixKind::kRelative8) return Put({0});
  if (kind == FixKind::kRelative32) return Put32(0);
  Put64(0);
}

std::uint64_t Generator::PointerTo(unsigned label) {
  pointers_.push_back(label);
  return arena_.code() + 8 * (pointers_.size() - 1);
}

unsigned Generator::NewLabel() {
  labels_.push_back(0);
  return static_cast<unsigned>(labels_.size() - 1);
}

// A unit behind this one, not far.
unsigned Generator::Later(unsigned index) {
  constexpr unsigned kReach = 5;
  return std::min(units_, index + 1 + static_cast<unsigned>(Pick(kReach)));
}

std::uint64_t Generator::SegmentBase(Segment segment) const {
  switch (segment) {
    case Segment::kNone:
      return 0;
    case Segment::kFs:
      return fs_base_;
    case Segment::kGs:
      return gs_base_;
  }
  return 0;
}

// ---- one instruction of any form ----------------------------------------------------------------

std::uint64_t Generator::Target() {
  const auto kind = static_cast<unsigned>(Pick(200));
  if (kind == 0) return arena_.forbidden() + Pick(Arena::kPage);
  if (kind == 1) return arena_.forbidden() - 1 - Pick(8);
  if (kind == 2) return arena_.memory() - 1 - Pick(8);
  if (kind < 12) return arena_.constants() + Arena::kPage / 2 + 64 * Pick(16);
  constexpr std::uint64_t kMargin = 0x1000;  // for displacements that are not known here
  const std::uint64_t line = 64 * Pick((Arena::kMemorySize - 2 * kMargin) / 64);
  return arena_.memory() + kMargin + line + (Happens(8) ? Pick(64) : 0);
}

void Generator::PutLegacyPrefixes(Bytes& bytes, bool one_byte_map) {
  const auto maybe = [&](unsigned percent, std::uint8_t prefix) {
    if (Happens(percent)) bytes.push_back(prefix);
  };
  maybe(2, 0x2e);
  maybe(one_byte_map ? 5 : 0, 0xf0);
  maybe(8, 0x65);
  maybe(6, 0x64);
  maybe(1, 0x65);
  maybe(3, 0x67);
  maybe(20, 0x66);
  maybe(one_byte_map ? 4 : 12, 0xf3);
  maybe(one_byte_map ? 3 : 12, 0xf2);
  std::shuffle(bytes.begin(), bytes.end(), random_);
  // A REX byte that another prefix makes void.
  if (!bytes.empty() && Happens(5)) {
    bytes.insert(bytes.begin(), static_cast<std::uint8_t>(0x40 | Pick(16)));
  }
}

Generator::Bytes Generator::RandomBytes() {
  Bytes bytes;
  const auto byte = [&] { return static_cast<std::uint8_t>(random_()); };
  const auto style = static_cast<unsigned>(Pick(100));
  if (style < 60) {
    const bool one_byte = style < 28;
    PutLegacyPrefixes(bytes, one_byte || style < 48);
    if (Happens(60)) bytes.push_back(static_cast<std::uint8_t>(0x40 | Pick(16)));
    if (!one_byte) bytes.push_back(0x0f);
    if (style >= 50) bytes.push_back(style < 55 ? 0x38 : 0x3a);
  } else if (style < 80) {
    if (Happens(7)) bytes.push_back(Happens(60) ? 0x65 : 0x64);
    const unsigned unused = Happens(50) ? 0x78 : 0;
    if (Happens(30)) {
      bytes.push_back(0xc5);
      bytes.push_back(static_cast<std::uint8_t>(byte() | unused));
    } else {
      bytes.push_back(0xc4);
      bytes.push_back(static_cast<std::uint8_t>((byte() & 0xe0U) | (1 + Pick(3))));
      bytes.push_back(static_cast<std::uint8_t>(byte() | unused));
    }
  } else {
    if (Happens(7)) bytes.push_back(Happens(60) ? 0x65 : 0x64);
    bytes.push_back(0x62);
    bytes.push_back(static_cast<std::uint8_t>((byte() & 0xf0U) | (1 + Pick(3))));
    bytes.push_back(static_cast<std::uint8_t>(byte() | 4U | (Happens(50) ? 0x78U : 0U)));
    unsigned last = byte();
    if (Happens(60)) last &= ~0x90U;  // neither zeroing nor broadcast
    if (Happens(40)) last = (last & ~0x87U) | 8U;
    bytes.push_back(static_cast<std::uint8_t>(last));
  }
  bytes.push_back(byte());  // opcode
  std::uint8_t modrm = byte();
  if (Happens(20)) modrm |= 0xc0;
  if (Happens(15)) modrm = static_cast<std::uint8_t>((modrm & 0x38) | 5);
  bytes.push_back(modrm);
  for (unsigned i = 0; i < 14; ++i) bytes.push_back(byte());
  return bytes;
}

// Of what the runtime carries out: which operand of a comparison fails first, and whether bytes
// that are not selected count, is the processor's affair. What is refused.
bool IsLeftOpenWithSegment(const Instruction& instruction) {
  constexpr std::uint8_t kCompare = 0xa6;
  switch (instruction.operation) {
    case Operation::kStringNoRep:
    case Operation::kStringRep:
      return (instruction.opcode & 0xfe) == kCompare;
    case Operation::kMaskMove:
    case Operation::kClzero:
      return true;
    default:
      return false;
  }
}

// Left out: what differs from run to run, what only the runtime carries out, and GS-relative forms
// that the translator refuses.
bool Generator::IsWanted(const Instruction& instruction) const {
  if (instruction.klass != Class::kCopy) return false;
  const unsigned opcode = instruction.opcode;
  const bool is_gs = instruction.segment == Segment::kGs;
  const bool is_masked_fs = IsMask(options_.isolation) && instruction.segment == Segment::kFs;
  if ((is_gs || is_masked_fs) && IsLeftOpenWithSegment(instruction)) return false;
  switch (instruction.operation) {
    case Operation::kPopFlags:
    case Operation::kXsaveFamily:
    case Operation::kXgetbv:
    case Operation::kRdtsc:
    case Operation::kRdtscp:
    case Operation::kRdpid:
    case Operation::kMonitor:
    case Operation::kMovdir64b:
    case Operation::kEnqcmd:
    case Operation::kTileMemory:
    case Operation::kWrFsBase:
    case Operation::kX87Environment:
    case Operation::kEnter:
    case Operation::kLeave:
      return false;
    default:
      break;
  }
  // Zen 4 reads an old RSP after a push if EVEX.X, which means nothing here, is set.
  const bool is_register_form = !instruction.has_memory;
  if (instruction.encoding == Encoding::kEvex && is_register_form &&
      (instruction.registers & kRspBit) != 0) {
    return false;
  }
  if (instruction.encoding != Encoding::kLegacy) return true;
  if (is_gs && instruction.address_size && IsBitString(instruction)) return false;
  if (instruction.opcode_map == 0) {
    return options_.trap_flag_is_visible || opcode != 0x9c;  // pushf
  }
  if (instruction.opcode_map == 1) {
    // Descriptor tables, RDPRU and the like; RDRAND, RDSEED.
    if (opcode <= 0x03) return false;
    if (opcode == 0xc7 && (instruction.modrm >> 6) == 3) return false;
    // LDMXCSR: mostly unmasks exceptions.
    if (opcode == 0xae && ((instruction.modrm >> 3) & 7) == 2 && random_() % 8 != 0) return false;
  }
  return true;
}

// Left out besides: what isolation `seg` refuses, and addresses that only the window cuts to 32
// bits.
bool Generator::IsWantedInWindow(const Instruction& instruction) const {
  constexpr unsigned kLongest = 12;
  const bool has_segment = instruction.segment != Segment::kNone;
  const bool names_stack_in_vvvv = (StackFields(instruction) & Instruction::kVvvv) != 0;
  if (instruction.has_memory && instruction.length > kLongest) return false;
  // RSP and a segment base make an address between the arena's parts.
  if (has_segment &&
      (names_stack_in_vvvv || HasStackBase(instruction) ||
       (instruction.encoding == Encoding::kEvex && instruction.displacement_size == 1))) {
    return false;
  }
  switch (instruction.operation) {
    case Operation::kStringNoRep:
    case Operation::kStringRep:
      return !has_segment && !instruction.address_size;
    case Operation::kXlat:
    case Operation::kMaskMove:
    case Operation::kClzero:
    case Operation::kGatherScatter:
      return !has_segment;
    default:
      break;
  }
  if (!IsBitString(instruction) || !instruction.has_memory) return true;
  // The bit number may not be part of the address as well, nor RSP, which is not small.
  const unsigned reg = ((instruction.modrm >> 3) & 7U) | ((instruction.rex & 4U) << 1);
  const bool has_sib = (instruction.modrm & 7) == 4;
  const unsigned base =
      ((has_sib ? instruction.sib : instruction.modrm) & 7U) | ((instruction.rex & 1U) << 3);
  const unsigned index = ((instruction.sib >> 3) & 7U) | ((instruction.rex & 2U) << 2);
  return reg != kRsp && reg != base && !(has_sib && reg == index);
}

// Registers of instructions with operands that ModRM does not name.
void Generator::AimImplicit(const Instruction& instruction) {
  const std::uint64_t base = SegmentBase(instruction.segment);
  switch (instruction.operation) {
    case Operation::kStringRep:
      PutMove(kRcx, Pick(20));
      [[fallthrough]];
    case Operation::kStringNoRep:
      PutMove(kRsi, Target() - base);
      PutMove(kRdi, Target());
      break;
    case Operation::kXlat:
      PutMove(kRbx, Target() - base);
      break;
    case Operation::kMaskMove:
      PutMove(kRdi, Target() - base);
      break;
    case Operation::kClzero:
      PutMove(kRax, Target() - base);
      break;
    default:
      break;
  }
}

bool Generator::AimModrm(const Instruction& instruction, Bytes& bytes, std::uint64_t address) {
  const auto set32 = [&](std::uint64_t value) {
    const auto low = static_cast<std::uint32_t>(value);
    std::memcpy(bytes.data() + instruction.displacement_offset, &low, sizeof(low));
  };
  const unsigned mod = instruction.modrm >> 6;
  const bool has_sib = (instruction.modrm & 7) == 4;
  const unsigned base = ((has_sib ? instruction.sib : instruction.modrm) & 7U) |
                        ((instruction.rex & 1) != 0 ? 8U : 0U);
  unsigned index = ((instruction.sib >> 3) & 7U) | ((instruction.rex & 2) != 0 ? 8U : 0U);
  const unsigned scale = instruction.sib >> 6;
  const bool is_vector_index = instruction.operation == Operation::kGatherScatter;
  const bool has_index = has_sib && (index != kRsp || is_vector_index);
  const bool has_base = !(has_sib && mod == 0 && (base & 7) == kRbp);

  std::uint64_t displacement = 0;
  if (instruction.displacement_size == 1) {
    constexpr std::uint8_t kSmall[] = {0, 0x40, 0xc0, 0x20}, kScaled[] = {0, 1, 0xff, 2};
    const bool is_scaled = instruction.encoding == Encoding::kEvex;
    std::uint8_t& byte = bytes[instruction.displacement_offset];
    byte = is_scaled ? kScaled[Pick(4)] : kSmall[Pick(4)];
    if (!is_scaled) displacement = static_cast<std::uint64_t>(static_cast<std::int8_t>(byte));
  } else if (instruction.displacement_size == 4 && has_base) {
    displacement = 64 * Pick(8) - 256;
    set32(displacement);
  }
  if (is_vector_index) {
    // vmovdqu ymm or vmovdqu64 zmm, [constants]
    if (instruction.encoding == Encoding::kEvex &&
        (bytes[instruction.prefix_length + 3U] & 8) == 0) {
      index |= 16;
    }
    if (index < 16 && Happens(50)) {
      PutRip({0xc5, 0x7eU | (index < 8 ? 0x80U : 0U), 0x6f, ((index & 7) << 3) | 5},
             arena_.constants());
    } else if (instruction.encoding == Encoding::kEvex) {
      PutRip({0x62, 0x61U | ((index & 8) != 0 ? 0U : 0x80U) | ((index & 16) != 0 ? 0U : 0x10U),
              0xfe, 0x48, 0x6f, ((index & 7) << 3) | 5},
             arena_.constants());
    } else {
      return false;
    }
  }
  if (!has_base && (!has_index || is_vector_index)) {
    if (instruction.address_size ? address > 0xffff'ffff : !FitsSigned32(address)) return false;
    set32(address);
    return true;
  }
  // Bits that a 32-bit address does not have.
  const std::uint64_t above = instruction.address_size ? random_() << 32 : 0;
  if (has_base && base == kRsp) {
    if (has_index && !is_vector_index) PutMove(index, 8 * Pick(4) | above);
    return true;
  }
  if (!has_base) {
    set32(0);
    PutMove(index, address >> scale | above);
    return true;
  }
  if (has_index && !is_vector_index && index == base) {
    PutMove(base, (address - displacement) / (1 + (1U << scale)));
    return true;
  }
  std::uint64_t value = address - displacement;
  if (has_index && !is_vector_index) {
    constexpr std::uint64_t kIndices[] = {0, 8, 64, ~std::uint64_t{63}};
    const std::uint64_t chosen = kIndices[Pick(4)];
    PutMove(index, chosen);
    value -= chosen << scale;
  }
  PutMove(base, (instruction.address_size ? value & 0xffff'ffff : value) | above);
  return true;
}

// Makes the explicit operand one that can be accessed, mostly.
bool Generator::AimExplicit(const Instruction& instruction, Bytes& bytes) {
  // How far a displacement of EVEX reaches is not known to the translator.
  const bool is_exact =
      instruction.encoding != Encoding::kEvex || instruction.displacement_size != 1;
  const bool may_be_wild = is_exact || !IsMask(options_.isolation);
  if (may_be_wild && !arena_.is_windowed() && Pick(100) < options_.wild_percent) return true;
  const std::uint64_t address = Target() - SegmentBase(instruction.segment);
  if (instruction.address_size && address > 0xffff'ffff) return false;
  if (instruction.modrm_offset == 0) {  // moffs
    std::memcpy(bytes.data() + instruction.displacement_offset, &address,
                instruction.displacement_size);
    return true;
  }
  if (IsBitString(instruction)) {
    const unsigned reg = ((instruction.modrm >> 3) & 7U) | ((instruction.rex & 4) != 0 ? 8U : 0U);
    // The bit number may be part of the address as well: then it goes anywhere.
    if (reg != kRsp) PutMove(reg, Pick(2048));
  }
  if (!instruction.rip_relative) return AimModrm(instruction, bytes, address);
  const std::uint64_t distance = address - (here() + instruction.length);
  if (!instruction.address_size && !FitsSigned32(distance)) return false;
  const auto low = static_cast<std::uint32_t>(distance);
  std::memcpy(bytes.data() + instruction.displacement_offset, &low, sizeof(low));
  return true;
}

bool Generator::PutOperands(const Instruction& instruction, Bytes& bytes) {
  if (instruction.address_size && instruction.operation != Operation::kOther &&
      arena_.stack_top() > 0xffff'ffff) {
    return false;
  }
  AimImplicit(instruction);
  const bool is_accessed = instruction.has_memory && instruction.operation != Operation::kLea;
  return !is_accessed || AimExplicit(instruction, bytes);
}

bool Generator::TryRandom(bool may_use_stack) {
  Bytes bytes = RandomBytes();
  Instruction instruction;
  if (Decode(bytes, instruction) != DecodeStatus::kOk || !IsWanted(instruction)) return false;
  if (arena_.is_windowed() && !IsWantedInWindow(instruction)) return false;
  if (unsupported_.IsLikely(instruction) && !Happens(1)) return false;
  const bool uses_stack = (instruction.registers & kRspBit) != 0;
  if (uses_stack && !may_use_stack) return false;
  bytes.resize(instruction.length);
  const std::size_t before = code_.size();
  const unsigned instructions_before = instructions_;
  if (!PutOperands(instruction, bytes)) {
    code_.resize(before);
    instructions_ = instructions_before;
    return false;
  }
  code_.insert(code_.end(), bytes.begin(), bytes.end());
  ++instructions_;
  if (!uses_stack) return true;
  // Pushes and pops may move the stack pointer a little; everything else moves it anywhere.
  const unsigned opcode = instruction.opcode;
  const bool is_one_byte = instruction.encoding == Encoding::kLegacy && instruction.opcode_map == 0;
  const bool is_push_or_pop =
      is_one_byte && opcode != 0x5c &&
      ((opcode >= 0x50 && opcode < 0x60) || opcode == 0x68 || opcode == 0x6a || opcode == 0x9c);
  if (!is_push_or_pop || Happens(10)) PutMove(kRsp, arena_.stack_top() - kStackReserve);
  return true;
}

void Generator::PutRandom(bool may_use_stack) {
  while (!TryRandom(may_use_stack)) {
  }
}

// ---- units --------------------------------------------------------------------------------------

bool Generator::PutRip(std::initializer_list<unsigned> opcode, std::uint64_t address) {
  ++instructions_;
  Put(opcode);
  const std::uint64_t distance = address - (here() + 4);
  Put32(static_cast<std::uint32_t>(distance));
  return FitsSigned32(distance);
}

void Generator::PutBranch(unsigned index) {
  if (Happens(50)) {
    ++instructions_;
    Put({0x38U | (Happens(50) ? 1U : 0U), 0xc0U | static_cast<unsigned>(Pick(64))});  // cmp
  }
  ++instructions_;
  const auto condition = static_cast<unsigned>(Pick(16));
  if (Happens(40)) {
    Put({0x70 | condition});
    return PutRelative(index + 1, FixKind::kRelative8);
  }
  if (Happens(5)) Put({0x3e});
  Put({0x0f, 0x80 | condition});
  PutRelative(Later(index), FixKind::kRelative32);
}

// loop and jrcxz, forward over one unit or back over themselves.
void Generator::PutCountBranch(unsigned index) {
  const bool is_short = Happens(20);
  if (Happens(80)) PutMove(kRcx, Pick(3) | (is_short && Happens(50) ? random_() << 32 : 0));
  const unsigned opcode = 0xe0U | static_cast<unsigned>(Pick(4));
  if (opcode != 0xe3 && Happens(30)) {
    PutMove(kRcx, 1 + Pick(5));
    const std::uint64_t start = here();
    Put({0x48, 0x8d, 0x40, static_cast<unsigned>(Pick(256))});  // lea rax, [rax + n]
    Put({opcode});
    Put({static_cast<unsigned>(start - (here() + 1)) & 0xff});
    instructions_ += 2;
    return;
  }
  ++instructions_;
  if (is_short) Put({0x67});
  Put({opcode});
  PutRelative(index + 1, FixKind::kRelative8);
}

void Generator::PutJump(unsigned index) {
  ++instructions_;
  if (Happens(40)) {
    Put({0xeb});
    return PutRelative(index + 1, FixKind::kRelative8);
  }
  Put({0xe9});
  PutRelative(Later(index), FixKind::kRelative32);
}

void Generator::PutIndirect(unsigned label, bool is_call) {
  unsigned reg;
  do {
    reg = static_cast<unsigned>(Pick(16));
  } while (reg == kRsp);
  const unsigned low = reg & 7, high = reg >> 3;
  const unsigned slash = is_call ? 0x10 : 0x20;
  const auto with_base = [&](std::uint64_t address, bool has_index) {
    PutMove(reg, address - 16);
    const unsigned index = reg == kRcx ? 11 : kRcx;
    if (has_index) PutMove(index, 2);
    ++instructions_;
    if (has_index) {
      Put({0x40 | high | (index >> 3) << 1, 0xff, 0x44 | slash, 0xc0 | (index & 7) << 3 | low, 0});
    } else {
      Put({0x40 | high, 0xff, 0x80 | slash | low});
      if (low == 4) Put({0x24});
      Put32(16);
    }
  };
  switch (Pick(8)) {
    case 0:
      ++instructions_;
      Put({0x48 | high, 0xb8 | low});
      PutRelative(label, FixKind::kAbsolute64);
      ++instructions_;
      Put({0x40 | high, 0xff, 0xc0 | slash | low});
      return;
    case 1:
      PutRip({0xff, slash | 5}, PointerTo(label));
      return;
    case 2:
      return with_base(PointerTo(label), false);
    case 3:
      return with_base(PointerTo(label), true);
    case 4: {
      const std::uint64_t pointer = PointerTo(label) - gs_base_;
      // The prefix goes in front of the last instruction only.
      PutMove(reg, pointer);
      ++instructions_;
      Put({0x65, 0x40 | high, 0xff, 0x40 | slash | low});
      if (low == 4) Put({0x24});
      Put({0});
      return;
    }
    case 5: {
      const std::uint64_t pointer = PointerTo(label) - fs_base_;
      PutMove(reg, pointer);
      ++instructions_;
      Put({0x64, 0x40 | high, 0xff, 0x40 | slash | low});
      if (low == 4) Put({0x24});
      Put({0});
      return;
    }
    case 6: {
      // gs:[rip], fs:[rip], where they reach
      const bool is_gs = Happens(50);
      const std::uint64_t address = PointerTo(label) - (is_gs ? gs_base_ : fs_base_);
      if (!FitsSigned32(address - here())) return PutIndirect(label, is_call);
      Put({is_gs ? 0x65U : 0x64U});
      PutRip({0xff, slash | 5}, address);
      return;
    }
    default: {
      // [disp32], [fs:disp32], [gs:disp32]
      constexpr Segment kSegments[] = {Segment::kNone, Segment::kFs, Segment::kGs};
      const Segment segment = kSegments[Pick(3)];
      const std::uint64_t address = PointerTo(label) - SegmentBase(segment);
      if (!FitsSigned32(address)) return PutIndirect(label, is_call);
      ++instructions_;
      if (segment != Segment::kNone) Put({segment == Segment::kFs ? 0x64U : 0x65U});
      Put({0xff, slash | 4, 0x25});
      Put32(static_cast<std::uint32_t>(address));
      return;
    }
  }
}

// A second way to a unit, from where the first lookup table has the same entry for it.
void Generator::PutFarStub(unsigned label) {
  Sequence::Chunk stub{.address = label, .bytes = {}};
  switch (Pick(4)) {
    case 0:
      stub.bytes = {0x9f};  // lahf
      break;
    case 1:
      stub.bytes = {0x0f, 0x92, 0xc0};  // setc al
      break;
    case 2:
      stub.bytes = {0x48, 0x01, 0xc8};  // add rax, rcx
      break;
    default:
      break;
  }
  far_.push_back(std::move(stub));
}

void Generator::PutIndirectJump(unsigned index) {
  unsigned label = Later(index);
  if (Happens(40)) {
    PutFarStub(label);
    const unsigned far_label = NewLabel();
    far_.back().address |= static_cast<std::uint64_t>(far_label) << 32;
    label = far_label;
  }
  PutIndirect(label, false);
}

void Generator::PutCall() {
  const auto number = static_cast<unsigned>(Pick(functions_.size()));
  for (unsigned i = 0; i < function_drops_[number]; ++i) {
    ++instructions_;
    Put({0x6a, static_cast<unsigned>(Pick(256))});
  }
  if (Happens(50)) return PutIndirect(functions_[number], true);
  ++instructions_;
  Put({0xe8});
  PutRelative(functions_[number], FixKind::kRelative32);
}

void Generator::PutPushReturn(unsigned index) {
  if (Happens(30)) {  // call next; pop reg
    instructions_ += 2;
    Put({0xe8, 0, 0, 0, 0, 0x58U | static_cast<unsigned>(Happens(50) ? kRbx : kRcx)});
    return;
  }
  instructions_ += 3;
  Put({0x49, 0xbb});  // mov r11, label
  PutRelative(Later(index), FixKind::kAbsolute64);
  Put({0x41, 0x53});  // push r11
  if (Happens(70)) return Put({0xc3});
  Put({0xc2, 8U * static_cast<unsigned>(Pick(4)), 0});
}

void Generator::PutDivision() {
  constexpr unsigned kDivisors[] = {kRcx, kRbx, kRsi, 11, 15};
  const unsigned divisor = kDivisors[Pick(5)];
  PutMove(kRax, random_());
  PutMove(kRdx, Happens(30) ? ~std::uint64_t{0} : Pick(64));
  PutMove(divisor, random_() | 0x4040'4040'4040'4040);
  ++instructions_;
  if (Happens(20)) Put({0x66});
  Put({(Happens(50) ? 0x48U : 0x40U) | (divisor >> 3), Happens(80) ? 0xf7U : 0xf6U,
       (Happens(50) ? 0xf0U : 0xf8U) | (divisor & 7)});
}

void Generator::PutFlagsFromStack() {
  constexpr std::uint32_t kArithmetic = 0x8d5, kDirection = 0x400, kNested = 0x4000,
                          kAlignment = 0x4'0000, kIdentification = 0x20'0000;
  std::uint32_t flags = static_cast<std::uint32_t>(random_()) & kArithmetic;
  if (Happens(20)) flags |= kDirection;
  if (Happens(10)) flags |= kNested;
  if (Happens(5)) flags |= kAlignment;
  if (Happens(10)) flags |= kIdentification;
  instructions_ += 2;
  Put({0x68});
  Put32(flags);
  Put({0x9d});
}

void Generator::PutEnterLeave() {
  PutMove(kRbp, arena_.stack_top() - kStackReserve / 2);
  instructions_ += 2;
  Put({0xc8, 8U * static_cast<unsigned>(Pick(8)), 0,
       arena_.is_windowed() ? 0 : static_cast<unsigned>(Pick(4))});
  Put({0xc9});
}

void Generator::PutSystemCall() {
  constexpr unsigned kUnknownCall = 0x7fff'0000;
  instructions_ += 2;
  Put({0xb8});
  Put32(Happens(50) ? SYS_getppid : kUnknownCall);
  if (Happens(50)) PutMove(kRdi, random_());
  Put({0x0f, 0x05});
}

void Generator::PutRefresh() {
  unsigned reg;
  do {
    reg = static_cast<unsigned>(Pick(16));
  } while (reg == kRsp);
  PutMove(reg, Happens(50) ? random_() : Target());
}

void Generator::PutString() {
  PutMove(kRcx, Pick(30));
  PutMove(kRsi, Target());
  PutMove(kRdi, Target());
  constexpr unsigned kOpcodes[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
  ++instructions_;
  if (Happens(10)) Put({0x66});
  const bool may_have_segment = !IsMask(options_.isolation) && !arena_.is_windowed();
  if (may_have_segment && Happens(10)) Put({0x64});
  Put({Happens(50) ? 0xf2U : 0xf3U});
  if (Happens(50)) Put({0x48});
  Put({kOpcodes[Pick(10)]});
}

void Generator::PutUnit(unsigned index) {
  Bind(index);
  if (loop_left_ == 0 && Happens(4) && index + 2 < units_) {
    // mov dword [counter], n. A loop of its own counter, zero at first: entered in its middle it
    // ends at once.
    loop_left_ = 1 + static_cast<unsigned>(Pick(6));
    ++instructions_;
    counter_ = arena_.counters() + 8 * loops_++;
    Put({0xc7, 0x05});
    Put32(static_cast<std::uint32_t>(counter_ - (here() + 8)));
    Put32(static_cast<std::uint32_t>(1 + Pick(6)));
    loop_ = NewLabel();
    Bind(loop_);
  }
  const auto kind = static_cast<unsigned>(Pick(100));
  if (kind < 60)
    PutRandom(true);
  else if (kind < 67)
    PutBranch(index);
  else if (kind < 70)
    PutCountBranch(index);
  else if (kind < 73)
    PutJump(index);
  else if (kind < 78)
    PutIndirectJump(index);
  else if (kind < 84)
    PutCall();
  else if (kind < 86)
    PutPushReturn(index);
  else if (kind < 89)
    PutDivision();
  else if (kind < 91)
    options_.trap_flag_is_visible ? PutFlagsFromStack() : PutRefresh();
  else if (kind < 92)
    PutEnterLeave();
  else if (kind < 94)
    options_.trap_flag_is_visible ? PutSystemCall() : PutRefresh();
  else if (kind < 97)
    PutRefresh();
  else
    PutString();
  if (loop_left_ != 0 && --loop_left_ == 0) {
    // sub dword [counter], 1; ja loop
    instructions_ += 2;
    Put({0x83, 0x2d});
    Put32(static_cast<std::uint32_t>(counter_ - (here() + 5)));
    Put({1, 0x0f, 0x87});
    PutRelative(loop_, FixKind::kRelative32);
  }
}

void Generator::PutFunction(unsigned number) {
  Bind(functions_[number]);
  const std::uint64_t length = Pick(5);
  for (std::uint64_t i = 0; i < length; ++i) PutRandom(false);
  ++instructions_;
  const unsigned drops = function_drops_[number];
  if (drops == 0) return Put({0xc3});
  Put({0xc2, 8 * drops, 0});
}

void Generator::PutEnd() {
  ++instructions_;
  switch (Pick(12)) {
    case 0:
      return Put({0x0f, 0x0b});  // ud2
    case 1:
      return Put({0xcc});  // int3
    case 2:
      return Put({0xcd, 0x20});  // int 0x20
    case 3: {  // off the end of the executable memory, in the middle of an instruction or not
      Sequence::Chunk tail{.address = 0, .bytes = {0x90, 0x48, 0x01, 0xc8, 0x48, 0x8b}};
      if (Happens(50)) tail.bytes.resize(4);
      const std::uint64_t address = arena_.code_end() - tail.bytes.size();
      tail.address = address;
      Put({0xe9});
      Put32(static_cast<std::uint32_t>(address - (here() + 4)));
      far_.push_back(std::move(tail));
      return;
    }
    case 4:
      PutMove(11, Happens(50) ? arena_.memory() : arena_.forbidden());
      Put({0x41, 0xff, 0xe3});  // jmp r11
      return;
    case 5:  // ret and jmp from where nothing can be read
      PutMove(kRsp, arena_.forbidden());
      Put({Happens(50) ? 0xc3U : 0x58U});
      return Put({0xf4});
    case 6:
      PutMove(kRcx, arena_.forbidden() + 8 * Pick(8));
      Put({0xff, Happens(50) ? 0x21U : 0x11U});
      return Put({0xf4});
    case 7: {  // call and push to where nothing can be written
      PutMove(kRsp, arena_.forbidden());
      switch (Pick(3)) {
        case 0:
          Put({0xe8, 0, 0, 0, 0});
          break;
        case 1:
          PutIndirect(units_, true);
          break;
        default:
          Put({0x41, 0x53});
          break;
      }
      return Put({0xf4});
    }
    default:
      return Put({0xf4});  // hlt
  }
}

void Generator::Resolve() {
  // Far stubs: 64 KiB behind their units.
  for (Sequence::Chunk& stub : far_) {
    if (arena_.IsCode(stub.address)) continue;
    const auto label = static_cast<unsigned>(stub.address);
    const auto far_label = static_cast<unsigned>(stub.address >> 32);
    const std::uint64_t address = labels_[label] + kTableDistance * (1 + Pick(2));
    const std::uint64_t end = address + stub.bytes.size() + 5;
    const bool is_taken = std::any_of(far_.begin(), far_.end(), [&](const Sequence::Chunk& other) {
      return other.address < end && other.address + other.bytes.size() > address;
    });
    if (is_taken || end > arena_.code_end()) {
      labels_[far_label] = labels_[label];
      stub.bytes.clear();
      stub.address = arena_.code();
      continue;
    }
    labels_[far_label] = address;
    stub.address = address;
    const auto relative = static_cast<std::uint32_t>(labels_[label] - end);
    stub.bytes.push_back(0xe9);
    for (unsigned i = 0; i < 4; ++i) {
      stub.bytes.push_back(static_cast<std::uint8_t>(relative >> (8 * i)));
    }
  }
  for (const Fix& fix : fixes_) {
    const std::uint64_t target = labels_[fix.label];
    if (fix.kind == FixKind::kAbsolute64) {
      std::memcpy(code_.data() + fix.at, &target, sizeof(target));
    } else if (fix.kind == FixKind::kRelative32) {
      const auto relative = static_cast<std::uint32_t>(target - (start_ + fix.at + 4));
      std::memcpy(code_.data() + fix.at, &relative, sizeof(relative));
    } else {
      const std::uint64_t relative = target - (start_ + fix.at + 1);
      // Out of reach: goes nowhere else.
      code_[fix.at] = relative < 0x80 ? static_cast<std::uint8_t>(relative) : 0;
    }
  }
}

Sequence Generator::Make() {
  code_.clear();
  fixes_.clear();
  pointers_.clear();
  functions_.clear();
  function_drops_.clear();
  far_.clear();
  instructions_ = loop_left_ = loops_ = 0;
  start_ = arena_.code() + kPointersSize + Pick(0x8000);
  units_ = 3 + static_cast<unsigned>(Pick(options_.most_units));
  labels_.assign(units_ + kEndUnits, 0);
  const std::uint64_t functions = 1 + Pick(3);
  for (std::uint64_t i = 0; i < functions; ++i) {
    functions_.push_back(NewLabel());
    function_drops_.push_back(Happens(30) ? 1 + static_cast<unsigned>(Pick(3)) : 0);
  }
  for (unsigned i = 0; i < units_; ++i) PutUnit(i);
  Bind(units_);
  PutEnd();
  for (unsigned i = 0; i < functions; ++i) PutFunction(i);
  Resolve();

  Sequence sequence{.entry = start_, .chunks = {}, .instructions = instructions_};
  sequence.chunks.push_back({start_, code_});
  Sequence::Chunk pointers{.address = arena_.code(), .bytes = {}};
  for (const unsigned label : pointers_) {
    for (unsigned i = 0; i < 8; ++i) {
      pointers.bytes.push_back(static_cast<std::uint8_t>(labels_[label] >> (8 * i)));
    }
  }
  sequence.chunks.push_back(std::move(pointers));
  for (Sequence::Chunk& chunk : far_) sequence.chunks.push_back(std::move(chunk));
  return sequence;
}

void Generator::PrepareMachine(Machine& machine) {
  Randomize(random_, machine);
  const auto base = [&]() -> std::uint64_t {
    switch (Pick(3)) {
      case 0:
        return 64 * Pick(256);
      case 1:
        return arena_.memory() + 64 * Pick(64);
      default:
        return arena_.memory() - 0x1000'0000 + 64 * Pick(64);
    }
  };
  fs_base_ = machine.fs_base = base();
  gs_base_ = machine.gs_base = base();
  machine.gpr[kRsp] = arena_.stack_top() - kStackReserve;
}

}  // namespace dunebox::jit
