// Decode(): prefixes, then the opcode's forms in the table, then what the form says follows.
//
// The table decides what exists. This file knows only how bytes are laid out [intel/vol2 §2.1-2.7]
// [amd/vol3 §1]. It avoids branches that depend on the instruction where arithmetic does: a
// mispredicted branch costs as much as all else here.
#include <array>
#include <cstring>

#include "jit-fallback/decode/fields.h"
#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/decode/opcode_table.h"
#include "jit-fallback/decode/validity.h"

namespace dunebox::jit {
namespace {

// No path reads further than this from the first byte before it gives up: 15 bytes of prefixes,
// then VEX or escapes, opcode, ModRM, SIB, displacement, and an immediate in one load.
constexpr std::size_t kReadAhead = 48;

constexpr unsigned kNoPrefix = 0, k66 = 1, kF3 = 2, kF2 = 3;  // mandatory prefix, as VEX.pp
constexpr unsigned kLength512 = 2;

// What a byte is when an opcode or prefix is expected.
enum class Lead : std::uint8_t { kOpcode, kRex, kPrefix, kEscape, kVex2, kVex3, kEvex };

constexpr std::array<Lead, 256> kLeads = [] {
  std::array<Lead, 256> leads{};
  for (unsigned i = 0x40; i < 0x50; ++i) leads[i] = Lead::kRex;
  for (const unsigned i :
       {0x26u, 0x2eu, 0x36u, 0x3eu, 0x64u, 0x65u, 0x66u, 0x67u, 0xf0u, 0xf2u, 0xf3u}) {
    leads[i] = Lead::kPrefix;
  }
  leads[0x0f] = Lead::kEscape;
  leads[0xc5] = Lead::kVex2;
  leads[0xc4] = Lead::kVex3;
  leads[0x62] = Lead::kEvex;
  return leads;
}();

// Bytes of displacement by ModRM.mod.
constexpr std::array<std::uint8_t, 4> kDisplacementSizes = {0, 1, 4, 0};

// Bytes of immediates by `Immediate` and operand size: 32 bits, 16 bits, 64 bits.
constexpr std::uint8_t kImmediateSizes[kImmediates][3] = {
    {0, 0, 0},  // kNone
    {1, 1, 1},  // kByte
    {2, 2, 2},  // kTwoBytes
    {2, 2, 2},  // kWord
    {3, 3, 3},  // kEnter
    {4, 2, 4},  // kByOperand
    {4, 2, 8},  // kByOperandFull
    {0, 0, 0},  // kOffset: a displacement
    {1, 1, 1},  // kBranchByte
    {4, 4, 4},  // kBranch
};

constexpr unsigned Bit(unsigned number) { return 1u << number; }

// A constant to copy: building one on the stack would stall the load that copies it.
constexpr Instruction kNothing;
constexpr Instruction kRefused = {.length = 1};

template <typename T>
T Load(const std::uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// The `size` bytes (0, 1 or 4) at `from` as a signed number.
std::int32_t LoadSigned(const std::uint8_t* from, unsigned size) {
  const unsigned unused = (4 - size) * 8 & 31;
  const auto value = static_cast<std::int32_t>(Load<std::uint32_t>(from) << unused) >> unused;
  return size == 0 ? 0 : value;
}

class Decoder {
 public:
  Decoder(const std::uint8_t* start, Instruction& instruction)
      : start_(start), cursor_(start), out_(instruction) {}

  // Whether it is an instruction. Examined() bytes decided that.
  bool Run();
  std::size_t Examined() const { return static_cast<std::size_t>(cursor_ - start_); }

 private:
  std::uint8_t Offset() const { return static_cast<std::uint8_t>(cursor_ - start_); }

  bool ReadOpcode();
  bool ReadPrefixes();
  void ApplyPrefix(std::uint8_t byte);
  void ReadEscape();
  bool ReadVex2();
  bool ReadVex3();
  bool ReadEvex();
  bool MayHaveVector() const;
  unsigned MandatoryPrefix() const;

  const Form* FindForm();
  const Form* FirstMatch(const Form& first) const;
  void ReadMemory(const Form& form);
  void ReadImmediates(const Form& form);
  void Touch(Operand operand, unsigned number);
  void ApplySpecial(const Form& form);
  void Describe(const Form& form);
  void DescribeVector();
  bool HasSegment(const Form& form) const;
  bool IsRefusedBranch(const Form& form) const;

  const std::uint8_t* const start_;
  const std::uint8_t* cursor_;
  Instruction& out_;
  Fields fields_;
  unsigned last_repeat_ = kNoPrefix;
  unsigned touched_ = 0;  // registers as in Form::implicit
};

void Decoder::ApplyPrefix(std::uint8_t byte) {
  switch (byte) {
    case 0x64:
      out_.segment = Segment::kFs;
      break;
    case 0x65:
      out_.segment = Segment::kGs;
      break;
    case 0x66:
      fields_.operand_size = true;
      break;
    case 0x67:
      out_.address_size = true;
      break;
    case 0xf0:
      out_.lock = true;
      break;
    case 0xf2:
      out_.repne = true;
      last_repeat_ = kF2;
      break;
    case 0xf3:
      out_.rep = true;
      last_repeat_ = kF3;
      break;
    default:  // es, cs, ss, ds: no effect in 64-bit mode, not even on an earlier fs or gs
      break;
  }
}

// Leaves the cursor behind the opcode byte.
bool Decoder::ReadOpcode() {
  // Most instructions begin with the opcode, or with REX and the opcode.
  const unsigned first = *cursor_;
  const bool has_rex = (first & 0xf0) == 0x40;
  const std::uint8_t* opcode = cursor_ + has_rex;
  fields_.rex = has_rex ? first : 0;
  fields_.opcode = *opcode;
  switch (kLeads[*opcode]) {
    case Lead::kOpcode:
      cursor_ = opcode + 1;
      return true;
    case Lead::kEscape:
      cursor_ = opcode + 1;
      ReadEscape();
      return true;
    case Lead::kRex:
    case Lead::kPrefix:
    case Lead::kVex2:
    case Lead::kVex3:
    case Lead::kEvex:
      fields_.rex = 0;
      return ReadPrefixes();
  }
  return false;
}

bool Decoder::ReadPrefixes() {
  for (;;) {
    if (Offset() == kMaxLength) return false;
    const std::uint8_t byte = *cursor_++;
    const Lead lead = kLeads[byte];
    if (lead == Lead::kPrefix) {
      // REX counts only right before the opcode.
      fields_.rex = 0;
      ApplyPrefix(byte);
      continue;
    }
    if (lead == Lead::kRex) {
      fields_.rex = byte;
      out_.prefix_length = static_cast<std::uint8_t>(Offset() - 1);
      continue;
    }
    if (fields_.rex == 0) out_.prefix_length = static_cast<std::uint8_t>(Offset() - 1);
    fields_.opcode = byte;
    switch (lead) {
      case Lead::kEscape:
        ReadEscape();
        return true;
      case Lead::kVex2:
        return ReadVex2();
      case Lead::kVex3:
        return ReadVex3();
      case Lead::kEvex:
        return ReadEvex();
      case Lead::kOpcode:
      case Lead::kRex:
      case Lead::kPrefix:
        return true;
    }
  }
}

unsigned Decoder::MandatoryPrefix() const {
  if (last_repeat_ != kNoPrefix) return last_repeat_;
  return fields_.operand_size ? k66 : kNoPrefix;
}

inline void Decoder::ReadEscape() {
  fields_.map = 1;
  fields_.opcode = *cursor_++;
  if (fields_.opcode == 0x38 || fields_.opcode == 0x3a) {
    fields_.map = fields_.opcode == 0x38 ? 2 : 3;
    fields_.opcode = *cursor_++;
  }
  fields_.group = kLegacyGroup + 4 * (fields_.map - 1) + MandatoryPrefix();
}

// REX, LOCK, 66, F2 and F3 before VEX or EVEX are undefined.
bool Decoder::MayHaveVector() const {
  return fields_.rex == 0 && !out_.lock && MandatoryPrefix() == kNoPrefix;
}

bool Decoder::ReadVex2() {
  if (!MayHaveVector()) return false;
  const unsigned byte = *cursor_++;
  fields_.encoding = Encoding::kVex2;
  fields_.rex = 0x40 | ((~byte >> 5) & kRexR);
  fields_.vvvv = (~byte >> 3) & 15;
  fields_.vector_length = (byte >> 2) & 1;
  fields_.map = 1;
  fields_.group = kVexGroup + (byte & 3);
  fields_.opcode = *cursor_++;
  return true;
}

bool Decoder::ReadVex3() {
  if (!MayHaveVector()) return false;
  const unsigned first = *cursor_++;
  const unsigned second = *cursor_++;
  fields_.map = first & 31;
  if (fields_.map < 1 || fields_.map > 3) return false;
  fields_.encoding = Encoding::kVex3;
  fields_.rex = 0x40 | ((second >> 4) & kRexW) | ((~first >> 5) & 7);
  fields_.vvvv = (~second >> 3) & 15;
  fields_.vector_length = (second >> 2) & 1;
  fields_.group = kVexGroup + 4 * (fields_.map - 1) + (second & 3);
  fields_.opcode = *cursor_++;
  return true;
}

bool Decoder::ReadEvex() {
  if (!MayHaveVector()) return false;
  const unsigned first = *cursor_++;
  const unsigned second = *cursor_++;
  const unsigned third = *cursor_++;
  fields_.map = first & 15;  // bit 3 is reserved
  const bool has_fixed_bit = (second & 4) != 0;
  if (!has_fixed_bit || fields_.map > 7 || kEvexMapGroup[fields_.map] == kNoEvexMap) return false;
  fields_.encoding = Encoding::kEvex;
  fields_.rex = 0x40 | ((second >> 4) & kRexW) | ((~first >> 5) & 7);
  fields_.vvvv = (~second >> 3) & 15;
  fields_.vector_length = (third >> 5) & 3;
  fields_.evex_first = first;
  fields_.evex_third = third;
  fields_.group = kEvexMapGroup[fields_.map] + (second & 3);
  fields_.opcode = *cursor_++;
  return true;
}

// The first form of `first`'s opcode whose constraints hold.
const Form* Decoder::FirstMatch(const Form& first) const {
  const unsigned mod = fields_.IsRegisterForm() ? 2 : 1;
  const unsigned reg = (fields_.modrm >> 3) & 7;
  const unsigned rm = fields_.modrm & 7;
  const unsigned wide = fields_.IsWide() ? 2 : 1;
  // EVEX.b in a register form turns the length into a rounding mode where there is one.
  const bool may_round = fields_.IsEvex() && mod == 2 && fields_.EvexBroadcast();
  for (const Form* form = &first;; form = &kOpcodes.forms[form->next]) {
    const bool rounds = may_round && form->Has(tag::kRounding | tag::kSuppress);
    const unsigned length = rounds ? kLength512 : fields_.vector_length;
    if ((form->mods & mod) != 0 && (form->widths & wide) != 0 && ((form->regs >> reg) & 1) != 0 &&
        ((form->rms >> rm) & 1) != 0 && ((form->lengths >> length) & 1) != 0) {
      return form;
    }
    if (form->next == 0) return nullptr;
  }
}

// Reads ModRM, if the opcode has one.
const Form* Decoder::FindForm() {
  out_.opcode_offset = static_cast<std::uint8_t>(Offset() - 1);
  const unsigned index = kOpcodes.first[fields_.group][fields_.opcode];
  if (index == 0) return nullptr;
  const Form& form = kOpcodes.forms[index];
  const bool has_modrm = form.Has(tag::kModrm);
  const unsigned modrm = *cursor_;
  fields_.modrm = has_modrm ? modrm : 0xc0 | (fields_.opcode & 7);
  out_.modrm = static_cast<std::uint8_t>(has_modrm ? modrm : 0);
  out_.modrm_offset = has_modrm ? Offset() : 0;
  cursor_ += has_modrm;
  return form.Has(tag::kConstrained) ? FirstMatch(form) : &form;
}

void Decoder::ReadMemory(const Form& form) {
  const unsigned mod = fields_.modrm >> 6;
  unsigned base = fields_.modrm & 7;
  const bool has_sib = base == 4;
  const unsigned sib = *cursor_;
  fields_.sib = has_sib ? sib : 0;
  base = has_sib ? sib & 7 : base;
  cursor_ += has_sib;
  const bool has_base = mod != 0 || base != 5;
  const unsigned size = has_base ? kDisplacementSizes[mod] : 4;
  const unsigned index = fields_.Index();
  const bool has_index = has_sib && index != 4 && !form.Has(tag::kVectorIndex);
  touched_ |= unsigned{has_base} << (base | (fields_.rex & kRexB) << 3);
  touched_ |= unsigned{has_index} << index;
  out_.sib = static_cast<std::uint8_t>(fields_.sib);
  out_.has_memory = true;
  out_.access = form.rm.access;
  out_.rip_relative = !has_base && !has_sib;
  out_.displacement_offset = size != 0 ? Offset() : 0;
  out_.displacement_size = static_cast<std::uint8_t>(size);
  out_.displacement = LoadSigned(cursor_, size);
  cursor_ += size;
}

void Decoder::ReadImmediates(const Form& form) {
  const unsigned operand_size = fields_.IsWide() ? 2 : fields_.operand_size ? 1 : 0;
  const unsigned size = kImmediateSizes[static_cast<unsigned>(form.immediate)][operand_size];
  out_.immediate_offset = size != 0 ? Offset() : 0;
  out_.immediate_size = static_cast<std::uint8_t>(size);
  const std::int32_t value = LoadSigned(cursor_, size == 1 ? 1 : 4);
  const bool is_branch = form.immediate >= Immediate::kBranchByte;
  out_.relative = is_branch ? value : 0;
  out_.immediate16 = static_cast<std::uint16_t>(size > 1 ? value : size == 1 ? value & 0xff : 0);
  cursor_ += size;
}

inline void Decoder::Touch(Operand operand, unsigned number) {
  // Without REX, 8-bit registers 4 to 7 are AH to BH.
  const unsigned mask = operand.IsByte() && fields_.rex == 0 ? 3 : 15;
  const bool is_sized = fields_.IsWide() || !fields_.operand_size;
  const bool is_full = operand.Overwrites() || (operand.OverwritesIfSized() && is_sized);
  const unsigned bit = unsigned{operand.IsGeneral()} << (number & mask);
  touched_ |= bit << (is_full ? kOverwrittenShift : 0);
}

// What a form means beyond its fields.
void Decoder::ApplySpecial(const Form& form) {
  if (form.immediate == Immediate::kOffset) {
    out_.has_memory = true;
    out_.access = form.rm.access;
    out_.displacement_offset = Offset();
    out_.displacement_size = out_.address_size ? 4 : 8;
    cursor_ += out_.displacement_size;
  }
  if (form.Has(tag::kZero) && fields_.IsRegisterForm() && fields_.Reg() == fields_.Rm() &&
      (fields_.IsWide() || !fields_.operand_size)) {
    touched_ = Bit(fields_.Reg()) << kOverwrittenShift;
  }
  if (form.Has(tag::kSizedWrite) && fields_.operand_size && !fields_.IsWide()) {
    touched_ |= form.implicit >> kOverwrittenShift;  // 16 bits: the rest stays
  }
  // 90 with REX.B is xchg r8, rax.
  if (form.Has(tag::kNop) && (form.Has(tag::kModrm) || (fields_.rex & kRexB) == 0)) {
    touched_ = 0;
  }
  if (form.Has(tag::kString) && (out_.rep || out_.repne)) {
    out_.rep = last_repeat_ == kF3;
    out_.repne = !out_.rep;
    touched_ |= Bit(kRcx);
    if (out_.operation == Operation::kStringNoRep) out_.operation = Operation::kStringRep;
    // A count of zero writes no flags; a comparison looks at ZF.
    out_.reads_flags |= out_.overwrites_flags;
    out_.overwrites_flags = false;
  }
}

void Decoder::Describe(const Form& form) {
  out_.klass = form.klass;
  out_.operation = form.operation;
  out_.encoding = fields_.encoding;
  out_.rex = static_cast<std::uint8_t>(fields_.rex);
  out_.operand_size = fields_.operand_size;
  out_.opcode_map = static_cast<std::uint8_t>(fields_.map);
  out_.opcode = static_cast<std::uint8_t>(fields_.opcode);
  out_.general = form.general;
  out_.general_byte = form.general_byte;
  out_.has_mmx = form.reg.kind == Kind::kMmx || form.rm.kind == Kind::kMmx;
  out_.reads_flags = form.Has(tag::kReadsFlags);
  out_.overwrites_flags = form.Has(tag::kOverwritesFlags);
}

void Decoder::DescribeVector() {
  out_.vector_length = static_cast<std::uint8_t>(fields_.vector_length);
  out_.vvvv = static_cast<std::uint8_t>(fields_.vvvv);
  out_.high_reg = fields_.HighReg() != 0;
  out_.high_vvvv = fields_.HighVvvv() != 0;
  out_.opmask = static_cast<std::uint8_t>(fields_.IsEvex() ? fields_.EvexMask() : 0);
}

// Whether an instruction uses DS by default, which FS and GS replace. STOS and SCAS use ES only.
bool Decoder::HasSegment(const Form& form) const {
  const Operation operation = form.operation;
  if (operation == Operation::kStringNoRep) return (form.implicit & Bit(kRsi)) != 0;
  const bool is_implicit = operation == Operation::kXlat || operation == Operation::kMaskMove ||
                           operation == Operation::kClzero || operation == Operation::kMonitor;
  return is_implicit || (out_.has_memory && operation != Operation::kLea);
}

// Intel ignores an operand size on near branches, AMD obeys it and cuts RIP to 16 bits. With REX.W
// both take 64 bits, as in the sequences that linkers relax for thread-local storage.
bool Decoder::IsRefusedBranch(const Form& form) const {
  const bool is_near = (form.klass >= Class::kJump && form.klass <= Class::kReturn) ||
                       form.operation == Operation::kXbegin;
  return is_near && !fields_.IsWide();
}

bool Decoder::Run() {
  if (!ReadOpcode()) return false;
  const Form* form = FindForm();
  if (form == nullptr) return false;
  if (fields_.IsRegisterForm()) {
    Touch(form->rm, fields_.Rm());
  } else {
    ReadMemory(*form);
  }
  Touch(form->reg, fields_.Reg());
  touched_ |= form->implicit;
  if (out_.lock && (!form->Has(tag::kLock) || !out_.has_memory)) return false;
  if (fields_.encoding != Encoding::kLegacy) {
    if (!IsValidVector(*form, fields_)) return false;
    Touch(form->vvvv, fields_.vvvv);
    DescribeVector();
  }
  if (fields_.operand_size && IsRefusedBranch(*form)) return false;
  ReadImmediates(*form);
  Describe(*form);
  if (form->Has(tag::kSpecial)) {
    if (!IsValidSpecial(*form, fields_)) return false;
    ApplySpecial(*form);
  }
  if (out_.segment != Segment::kNone && !HasSegment(*form)) out_.segment = Segment::kNone;
  const unsigned overwritten = touched_ >> kOverwrittenShift;
  out_.registers = static_cast<std::uint16_t>(touched_ | overwritten);
  out_.overwritten = static_cast<std::uint16_t>(overwritten & ~touched_);
  out_.length = Offset();
  return out_.length <= kMaxLength;
}

}  // namespace

DecodeStatus Decode(std::span<const std::uint8_t> bytes, Instruction& instruction) {
  instruction = kNothing;
  // Near the end decode a copy followed by zeros, then see whether they mattered.
  std::uint8_t copy[kReadAhead];
  const std::uint8_t* start = bytes.data();
  if (bytes.size() < kReadAhead) {
    std::memset(copy, 0, sizeof copy);
    if (!bytes.empty()) std::memcpy(copy, bytes.data(), bytes.size());
    start = copy;
  }
  Decoder decoder(start, instruction);
  if (decoder.Run() && instruction.length <= bytes.size()) return DecodeStatus::kOk;
  const bool is_short = decoder.Examined() > bytes.size() && bytes.size() < kMaxLength;
  instruction = kRefused;
  return is_short ? DecodeStatus::kTruncated : DecodeStatus::kInvalid;
}

}  // namespace dunebox::jit
