#include "jit-fallback/dispatch/recover.h"

#include "jit-fallback/emit/confinement.h"

namespace dunebox::jit {

std::uint64_t RestoreGuest(const Recovered& recovered, const Context& context,
                           std::array<std::uint64_t, 16>& gpr) {
  constexpr auto kR11 = static_cast<unsigned>(Reg::kR11);
  const auto is_set = [&](std::uint8_t flag) { return (recovered.in_slot & flag) != 0; };
  const std::uint64_t rip = recovered.kind == RecoveryKind::kInR11 ? gpr[kR11] : recovered.pc;
  for (unsigned number = 0; number < gpr.size(); ++number) {
    if (((recovered.confined >> number) & 1) != 0) gpr[number] = Unconfine(gpr[number]);
  }
  if (is_set(kRspInScratch0)) gpr[kRsp] = gpr[recovered.scratch[0]];
  if (is_set(kRsiBased)) gpr[kRsi] -= context.window_base;
  if (is_set(kRdiBased)) gpr[kRdi] -= context.window_base;
  if (is_set(kRcxInSlot)) gpr[kRcx] = context.slot_rcx;
  if (is_set(kR11InSlot)) gpr[kR11] = context.slot_r11;
  if (is_set(kScratch0InSlot)) gpr[recovered.scratch[0]] = context.slot_scratch[0];
  if (is_set(kScratch1InSlot)) gpr[recovered.scratch[1]] = context.slot_scratch[1];
  if (recovered.kind == RecoveryKind::kAfterSystemCall) gpr[kRcx] = recovered.pc;
  if (context.is_windowed != 0) gpr[kRsp] &= 0xffff'ffff;
  return rip;
}

}  // namespace dunebox::jit
