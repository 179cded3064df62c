// Components of the extended state that XCR0 has on this machine and the guest is not told of: no
// instruction of the guest's may save them, since CPUID has given it a size without them, or load
// them, since PKRU is one.
#include "jit-fallback/dispatch/context_offsets.h"
#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {

// Forms of XSAVE and XRSTOR, whose mask is in EDX:EAX; not FXSAVE and FXRSTOR.
bool Emitter::HasComponentMask(const Instruction& instruction) {
  return instruction.operation == Operation::kXsaveFamily &&
         (instruction.opcode == 0xc7 || ((instruction.modrm >> 3) & 7) >= 4);
}

// Leaves to the runtime when the mask in EAX has a hidden component: it does the instruction
// without it. No flags are touched, and EAX cannot change behind the check.
void Emitter::EmitComponentCheck(const Step& step) {
  SpillAll(step.offset);
  code_.MoveImmediate(Reg::kR11, options_.hidden_components);
  code_.Bytes({0xc4, 0xc2, 0x7a, 0xf5, 0xcb});  // pext ecx, eax, r11d
  code_.Bytes({0xe3, 0});                       // jrcxz over the way out
  const std::uint32_t over = code_.size();
  code_.LoadSlot(Reg::kRcx, JIT_SLOT_RCX);
  code_.LoadSlot(Reg::kR11, JIT_SLOT_R11);
  StoreRip(block_->PcOf(step));
  code_.JumpThroughSlot(JIT_TO_EMULATE);
  code_.Patch8(over - 1, static_cast<std::uint8_t>(code_.size() - over));
  ReloadAll(step.offset);
}

}  // namespace dunebox::jit
