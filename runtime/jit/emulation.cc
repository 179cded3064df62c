#include "runtime/jit/emulation.h"

#include "runtime/jit/emulate.h"
#include "runtime/jit/emulate_string.h"
#include "runtime/jit/gather.h"

namespace dunebox::runtime {
namespace {

using jit::Operation;

std::optional<Fault> EmulateInteger(const jit::Instruction& instruction, jit::Context& context,
                                    std::span<std::byte>, const jit::ExtendedLayout&,
                                    const hostcalls::GuestMemory& memory) {
  return Emulate(instruction, context, memory);
}

struct Row {
  Operation operation;
  Emulation emulation;
};
constexpr Row kCopiedElsewhere[] = {
    {Operation::kXgetbv, EmulateInteger},     {Operation::kRdFsGsBase, EmulateInteger},
    {Operation::kWrFsBase, EmulateInteger},   {Operation::kGatherScatter, EmulateGather},
    {Operation::kStringNoRep, EmulateString}, {Operation::kStringRep, EmulateString},
    {Operation::kXlat, EmulateXlat},          {Operation::kMaskMove, EmulateMaskMove},
};

}  // namespace

Emulation EmulationOf(const jit::Instruction& instruction) {
  if (instruction.klass == jit::Class::kEmulate) return EmulateInteger;
  for (const Row& row : kCopiedElsewhere) {
    if (row.operation == instruction.operation) return row.emulation;
  }
  return nullptr;
}

}  // namespace dunebox::runtime
