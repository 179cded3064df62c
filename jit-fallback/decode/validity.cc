#include "jit-fallback/decode/validity.h"

namespace dunebox::jit {
namespace {

// Eight mask and tile registers, sixteen general ones.
bool Exists(Kind kind, unsigned number) {
  switch (kind) {
    case Kind::kMask:
    case Kind::kTile:
      return number < 8;
    case Kind::kByte:
    case Kind::kWord:
    case Kind::kGeneral:
    case Kind::kFull:
      return number < 16;
    case Kind::kNone:
    case Kind::kVector:
    case Kind::kMmx:
    case Kind::kSegment:
    case Kind::kControl:
    case Kind::kDebug:
    case Kind::kOther:
      return true;
  }
  return false;
}

// vvvv of no operand must be zero (encoded as ones). Bit 3 of a mask register in ModRM.rm is
// ignored.
bool RegistersExist(const Form& form, const Fields& fields) {
  const Kind vvvv = form.vvvv.kind;
  if (vvvv == Kind::kNone ? fields.vvvv != 0 : !Exists(vvvv, fields.vvvv)) return false;
  if (!Exists(form.reg.kind, fields.Reg() | fields.HighReg())) return false;
  return !fields.IsRegisterForm() || form.rm.kind == Kind::kMask ||
         Exists(form.rm.kind, fields.Rm());
}

// z, b, V' and aaa where they mean nothing must be zero. [intel/vol2 §2.7.11]
bool IsValidEvex(const Form& form, const Fields& fields) {
  const bool is_memory = !fields.IsRegisterForm();
  if (fields.EvexMask() != 0 ? !form.Has(tag::kMask) : form.Has(tag::kMaskNeeded)) return false;
  if (fields.EvexZeroing()) {
    if (fields.EvexMask() == 0 || !form.Has(tag::kZeroing)) return false;
    if (is_memory && form.rm.access != Access::kRead) return false;
  }
  if (fields.EvexBroadcast() &&
      !form.Has(is_memory ? tag::kBroadcast : tag::kRounding | tag::kSuppress)) {
    return false;
  }
  return fields.HighVvvv() == 0 || form.vvvv.kind == Kind::kVector || form.Has(tag::kVectorIndex);
}

// What is loaded, the index and VEX's mask register must differ. [intel/vol2 VPGATHERDD]
bool IsValidGather(const Form& form, const Fields& fields) {
  if (form.reg.kind != Kind::kVector || form.reg.access == Access::kRead) return true;
  const unsigned loaded = fields.Reg() | fields.HighReg();
  const unsigned index = fields.Index() | fields.HighVvvv();
  if (fields.IsEvex()) return loaded != index;
  return loaded != index && loaded != fields.vvvv && index != fields.vvvv;
}

// [intel/vol2 TDPBF16PS]
bool TilesDiffer(const Fields& fields) {
  return fields.Reg() != fields.Rm() && fields.Reg() != fields.vvvv && fields.Rm() != fields.vvvv;
}

// [intel/vol2 VFMULCPH]
bool DestinationDiffers(const Fields& fields) {
  const unsigned destination = fields.Reg() | fields.HighReg();
  if (destination == (fields.vvvv | fields.HighVvvv())) return false;
  return !fields.IsRegisterForm() || destination != (fields.Rm() | fields.HighRm());
}

}  // namespace

bool IsValidVector(const Form& form, const Fields& fields) {
  return RegistersExist(form, fields) && (!fields.IsEvex() || IsValidEvex(form, fields));
}

bool IsValidSpecial(const Form& form, const Fields& fields) {
  constexpr unsigned kControlRegisters = 0x11d;  // cr0, cr2, cr3, cr4, cr8
  if (form.reg.kind == Kind::kControl && ((kControlRegisters >> fields.Reg()) & 1) == 0) {
    return false;
  }
  if (form.reg.kind == Kind::kDebug && fields.Reg() >= 8) return false;
  if (form.vvvv.kind == Kind::kTile && !TilesDiffer(fields)) return false;
  if (form.Has(tag::kDistinct) && !DestinationDiffers(fields)) return false;
  return !form.Has(tag::kVectorIndex) || IsValidGather(form, fields);
}

}  // namespace dunebox::jit
