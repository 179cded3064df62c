// Random guest code on the bare processor and translated: all registers, flags, vector state and
// memory must be the same at the end, however it ends.
//
// ctest runs a little of it. By hand, for longer, or for one seed again:
//   JIT_RANDOM_INSTRUCTIONS=10000000 jit_random_test
//   JIT_RANDOM_SEED=12345 jit_random_test
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "jit-fallback/dispatch/operand_address.h"
#include "tests/jit/arena.h"
#include "tests/jit/generator.h"
#include "tests/jit/lockstep.h"
#include "tests/jit/runner.h"

namespace dunebox::jit {
namespace {

constexpr std::uint64_t kSeeds[] = {1, 2, 3, 4, 5, 6};

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

std::string Hex(std::uint64_t value) { return absl::StrCat(absl::Hex(value)); }

struct Counts {
  std::uint64_t sequences = 0, written = 0, executed = 0, faults = 0;
};

// One stream of sequences in one layout.
class Comparison {
 public:
  Comparison(Arena& arena, std::uint64_t seed, Isolation isolation)
      : arena_(arena),
        seed_(seed),
        isolation_(isolation),
        random_(seed),
        runner_(arena, {.cache_size = std::size_t{2} << 20,
                        .limits = {.instructions = seed % 3 == 0 ? 8U : 64U,
                                   .branches = 1 + static_cast<unsigned>(seed % 4)},
                        .check_by_loop = seed % 2 == 0,
                        .isolation = isolation}) {
    arena.set_is_watched(seed % 5 != 0);
    arena.Fill(random_);
    memory_ = arena.Save();
  }

  const Counts& counts() const { return counts_; }

  // Empty when all is the same.
  std::string Next() {
    Machine start;
    Generator generator(random_, arena_, unsupported_, {.isolation = isolation_});
    generator.PrepareMachine(start);
    const Sequence sequence = generator.Make();
    for (const Sequence::Chunk& chunk : sequence.chunks) {
      runner_.translator().Invalidate(chunk.address, chunk.address + chunk.bytes.size());
    }
    sequence.WriteTo(arena_);
    start.rip = sequence.entry;
    ++counts_.sequences;
    counts_.written += sequence.instructions;
    CountExecuted(start);

    // Registers of more than one kind through the same code: links and tables are there the second
    // time.
    std::string difference;
    for (unsigned round = 0; round < kRounds && difference.empty(); ++round) {
      difference = Compare(start);
      failed_ = start;
      Machine other;
      Randomize(random_, other);
      other.gpr[kRsp] = start.gpr[kRsp];
      other.rip = start.rip;
      other.fs_base = start.fs_base;
      other.gs_base = start.gs_base;
      start = other;
    }
    if (difference.empty()) return difference;
    std::uint64_t host_instructions = 0;
    difference += CompareSteps(runner_, failed_, memory_, host_instructions);
    return "seed " + std::to_string(seed_) + ", sequence " + std::to_string(counts_.sequences) +
           ", " + arena_.name() + "\n" + difference + sequence.Dump();
  }

 private:
  static constexpr unsigned kRounds = 4;
  static constexpr unsigned kCountEvery = 16;

  // How many instructions such a sequence executes, of every so many.
  void CountExecuted(const Machine& start) {
    if (counts_.sequences % kCountEvery != 1) return;
    arena_.Restore(memory_);
    Machine machine = start;
    std::vector<Snapshot> trace;
    runner_.TraceNative(machine, trace);
    counts_.executed += trace.size() * kRounds * kCountEvery;
  }

  std::string Compare(const Machine& start) {
    Machine native = start, translated = start;
    arena_.Restore(memory_);
    const Ending native_end = runner_.RunNative(native);
    const std::vector<std::byte> native_memory = arena_.Save();
    arena_.Restore(memory_);
    const Ending translated_end = runner_.RunTranslated(translated);
    const std::uint64_t differs = arena_.FirstDifference(native_memory);
    if (IsMask(isolation_)) {
      ForgiveLostBits(native, translated);
      if (IsOtherReason(native_end, translated_end) && native.rip == translated.rip) return {};
      if (IsInexactAddress(native_end, translated_end, native.rip)) return {};
      if (IsTakenForAnAddress(native_end, native)) return {};
    }
    std::string difference = Difference(native_end, translated_end);
    difference += Difference(native, translated);
    if (!difference.empty()) difference += "stopped at " + Hex(native.rip) + "\n";
    if (differs != 0) difference += "memory at " + Hex(differs) + "\n";
    Learn(native_end, native.rip);
    return difference;
  }

  // Of a register that was no address of the user half when its use as one failed, bits 62 and 63
  // are lost.
  static void ForgiveLostBits(const Machine& native, Machine& translated) {
    for (std::size_t i = 0; i < native.gpr.size(); ++i) {
      if (translated.gpr[i] == Unconfine(Confine(native.gpr[i]))) {
        translated.gpr[i] = native.gpr[i];
      }
    }
  }

  // An address that is not canonical may be reported as one that is not mapped, if it is misaligned
  // as well (the translator does not know which operands have to be aligned) or has no bits but 62
  // and 63 to say so.
  static bool IsOtherReason(const Ending& native, const Ending& translated) {
    constexpr std::uint64_t kStackFault = 12, kGeneralProtection = 13, kAlignmentCheck = 17;
    return (native.vector == kStackFault || native.vector == kGeneralProtection ||
            native.vector == kAlignmentCheck) &&
           translated.vector >= kStackFault && translated.vector <= kPageFault;
  }

  // An address with no bits above the user half but 62 and 63 is taken for what the others say (docs/known-limits.md):
  // translated, the guest goes on where the processor says that it is not canonical.
  bool IsTakenForAnAddress(const Ending& native_end, const Machine& native) {
    constexpr std::uint64_t kStackFault = 12, kGeneralProtection = 13;
    constexpr std::uint64_t kLost = std::uint64_t{3} << 62, kUserEnd = std::uint64_t{1} << 46;
    const bool is_not_canonical =
        native_end.vector == kStackFault || native_end.vector == kGeneralProtection;
    if (!is_not_canonical || !arena_.IsCode(native.rip)) return false;
    bool is_taken = false;
    arena_.WithCode(native.rip, 15, CodeSource::Purpose::kLook, [&](const CodeSource::Code& code) {
      Instruction instruction;
      if (Decode(code.bytes, instruction) != DecodeStatus::kOk || !instruction.has_memory) return;
      const std::uint64_t address =
          OperandAddress(instruction, code.bytes.first(instruction.length),
                         {native.gpr, native.rip, native.fs_base, native.gs_base});
      is_taken = (address & kLost) != 0 && (address & ~kLost) < kUserEnd;
    });
    return is_taken;
  }

  // Masked elements and displacements that count operands are not known to the translator.
  bool IsInexactAddress(const Ending& native, const Ending& translated, std::uint64_t rip) {
    if (native.vector != kPageFault || translated.vector != kPageFault ||
        native.address == translated.address || !arena_.IsCode(rip)) {
      return false;
    }
    bool is_evex = false;
    arena_.WithCode(rip, 15, CodeSource::Purpose::kLook, [&](const CodeSource::Code& code) {
      Instruction instruction;
      is_evex = Decode(code.bytes, instruction) == DecodeStatus::kOk &&
                instruction.encoding == Encoding::kEvex;
    });
    return is_evex;
  }

  void Learn(const Ending& ending, std::uint64_t rip) {
    if (ending.vector == kInvalidOpcode && arena_.IsCode(rip)) {
      arena_.WithCode(rip, 15, CodeSource::Purpose::kLook, [&](const CodeSource::Code& code) {
        Instruction instruction;
        if (Decode(code.bytes, instruction) == DecodeStatus::kOk) unsupported_.Count(instruction);
      });
    }
    if (ending.vector == kPageFault) ++counts_.faults;
  }

  static constexpr std::uint64_t kInvalidOpcode = 6, kPageFault = 14;

  Arena& arena_;
  const std::uint64_t seed_;
  const Isolation isolation_;
  Random random_;
  Runner runner_;
  Unsupported unsupported_;
  std::vector<std::byte> memory_;
  Machine failed_;
  Counts counts_;
};

std::unique_ptr<Arena> MapFor(std::uint64_t seed, Isolation isolation) {
  if (isolation == Isolation::kSeg) {
    return Arena::MapInWindow(kWindowLayouts[seed % std::size(kWindowLayouts)]);
  }
  return Arena::Map(kLayouts[seed % std::size(kLayouts)]);
}

void RunSeed(std::uint64_t seed, Isolation isolation, std::uint64_t instructions) {
  const std::unique_ptr<Arena> arena = MapFor(seed, isolation);
  if (arena == nullptr) GTEST_SKIP() << "the addresses are taken";
  Comparison comparison(*arena, seed, isolation);
  while (comparison.counts().executed < instructions) {
    const std::string difference = comparison.Next();
    ASSERT_TRUE(difference.empty()) << difference;
  }
  const Counts& counts = comparison.counts();
  std::cout << NameOf(isolation) << ", " << arena->name() << ", seed " << seed << ": " << counts.sequences << " sequences, "
            << counts.executed << " instructions executed (estimated), " << counts.faults
            << " page faults\n";
}

using Stream = std::tuple<std::uint64_t, Isolation>;
class RandomCode : public testing::TestWithParam<Stream> {};

TEST_P(RandomCode, DoesTheSameAsOnTheProcessor) {
  const auto [seed, isolation] = GetParam();
  RunSeed(seed, isolation, FromEnvironment("JIT_RANDOM_INSTRUCTIONS", 900'000) / std::size(kSeeds));
}

constexpr Isolation kIsolations[] = {Isolation::kNone, Isolation::kMask, Isolation::kMaskWrites,
                                     Isolation::kSeg};

std::string NameOfStream(const testing::TestParamInfo<Stream>& info) {
  std::string name(NameOf(std::get<1>(info.param)));
  std::ranges::replace(name, '-', '_');
  return name + "_" + std::to_string(std::get<0>(info.param));
}

INSTANTIATE_TEST_SUITE_P(KeptSeeds, RandomCode,
                         testing::Combine(testing::ValuesIn(kSeeds), testing::ValuesIn(kIsolations)),
                         NameOfStream);

class RandomCodeOfAFreshSeed : public testing::TestWithParam<Isolation> {};

TEST_P(RandomCodeOfAFreshSeed, DoesTheSameAsOnTheProcessor) {
  const std::uint64_t seed = FromEnvironment("JIT_RANDOM_SEED", std::random_device{}());
  std::cout << "JIT_RANDOM_SEED=" << seed << "\n";
  RunSeed(seed, GetParam(), FromEnvironment("JIT_RANDOM_INSTRUCTIONS", 900'000) / std::size(kSeeds));
}

INSTANTIATE_TEST_SUITE_P(All, RandomCodeOfAFreshSeed, testing::ValuesIn(kIsolations));

}  // namespace
}  // namespace dunebox::jit
