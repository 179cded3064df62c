// Arbitrary bytes as guest code, translated and emitted from every place where a block ends: what
// comes out is whole instructions back to back, its exits can be patched at any time, and its
// recovery entries are in order.
#include <Zydis/Zydis.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/translate/block.h"

namespace dunebox::jit {
namespace {

using Bytes = std::span<const std::uint8_t>;

// In front of every instruction: two slots saved and restored, an address; at the end a call.
constexpr std::size_t kMostHostBytesEach = 96, kMostHostBytesMore = 1024;
constexpr std::uint64_t kHost = 0x7f12'3456'7000;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "emitted code violates: %s\n", what);
  std::abort();
}

void CheckInstructions(Bytes code) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  for (std::size_t at = 0; at < code.size();) {
    Instruction ours;
    Require(Decode(code.subspan(at), ours) == DecodeStatus::kOk, "our decoder reads it");
    ZydisDecodedInstruction theirs;
    const bool is_known = ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(
        &decoder, nullptr, code.data() + at, code.size() - at, &theirs));
    // Without MPX its opcodes are no operations whatever they name; Zydis refuses bad bound
    // registers.
    const bool is_bound = ours.encoding == Encoding::kLegacy && ours.opcode_map == 1 &&
                          (ours.opcode == 0x1a || ours.opcode == 0x1b);
    Require(is_known || is_bound, "Zydis reads it");
    Require(!is_known || theirs.length == ours.length, "both see the same length");
    at += ours.length;
  }
}

void CheckEmitted(const Block& block, const Emitter& emitter) {
  const std::size_t size = emitter.code().size();
  Require(size <= block.steps.size() * kMostHostBytesEach + kMostHostBytesMore + 8 * block.length,
          "bounded size");
  for (const ExitSite& exit : emitter.exits()) {
    Require(exit.offset >= 1 && exit.offset + 4 <= size, "exits are inside");
    Require(((kHost + exit.offset) & 15) <= 12, "exits do not straddle 16 bytes");
  }
  Require(!emitter.recovery().empty() && emitter.recovery().front().host == 0,
          "recovery begins with the code");
  std::uint32_t last = 0;
  for (const Recovery& recovery : emitter.recovery()) {
    Require(&recovery == &emitter.recovery().front() || recovery.host > last,
            "recovery entries ascend");
    Require(recovery.host <= size, "recovery entries are inside");
    last = recovery.host;
  }
  CheckInstructions(emitter.code());
}

void Run(Bytes bytes) {
  // The first byte says where the code is and how it is cut.
  constexpr std::uint64_t kPlaces[] = {0x40'0000, 0x7fff'fff0, 0x9000'0000, 0x5555'0000'0000};
  if (bytes.empty()) return;
  const unsigned choice = bytes[0];
  std::uint64_t pc = kPlaces[choice & 3];
  const Limits limits{.instructions = (choice & 4) != 0 ? 3U : 64U,
                      .branches = 1 + ((choice >> 3) & 3),
                      .ends_at_store = (choice & 32) != 0};
  bytes = bytes.subspan(1);
  EmitterOptions options;
  options.runs_in_place = [](std::int64_t number) { return number % 2 == 0; };
  Emitter emitter(options);
  Block block;
  for (;;) {
    Translate(pc, bytes, limits, block);
    if (std::holds_alternative<FetchFault>(block.terminal)) return;
    Require(block.length >= 1 && block.length <= bytes.size(), "a block has bytes");
    Require(block.steps.size() <= limits.instructions, "a block is limited");
    for (const EntryKind kind : {EntryKind::kDirect, EntryKind::kIndirect}) {
      block.is_self_checking = (choice & 64) != 0;
      emitter.Emit(block, kind, kHost);
      CheckEmitted(block, emitter);
    }
    emitter.EmitIndirectStub(block, kHost);
    CheckEmitted(block, emitter);
    bytes = bytes.subspan(block.length);
    pc += block.length;
  }
}

}  // namespace
}  // namespace dunebox::jit

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  dunebox::jit::Run({data, size});
  return 0;
}
