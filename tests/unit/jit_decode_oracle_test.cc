// Our decoder against Zydis, on installed machine code and on random bytes.
//
//   jit_decode_oracle_test                     # what ctest runs: some files, 2 x 1 million strings
//   jit_decode_oracle_test --sweep FILE...     # these ELF files
//   jit_decode_oracle_test --sweep-all         # every ELF file below /usr, many minutes
//   jit_decode_oracle_test --random COUNT SEED # this many strings
//   jit_decode_oracle_test --encodings         # opcodes x ModRM x prefix fields, 110 million
#include "tests/unit/jit_decode_oracle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "jit-fallback/decode/opcode_table.h"
#include "tests/unit/elf_code.h"

namespace dunebox::jit {
namespace {

constexpr std::size_t kMaxReports = 20;

// Counts differences; prints the first few.
class Judge {
 public:
  // The oracle's length, or 1 to go on behind a byte that is no instruction.
  unsigned Check(std::span<const std::uint8_t> bytes) {
    const Comparison comparison = oracle_.Compare(bytes);
    if (!comparison.difference.empty() && ++differences_ <= kMaxReports) {
      const std::string text = oracle_.Describe(bytes);
      std::printf("%.*s: %s\n", static_cast<int>(comparison.difference.size()),
                  comparison.difference.data(), text.c_str());
    }
    return comparison.oracle_length != 0 ? comparison.oracle_length : 1;
  }

  void PrintSummary() const {
    std::printf("%llu instructions, %llu differences\n",
                static_cast<unsigned long long>(oracle_.instructions()),
                static_cast<unsigned long long>(differences_));
    for (const auto& [reason, count] : oracle_.exceptions()) {
      std::printf("%10llu  %.*s\n", static_cast<unsigned long long>(count),
                  static_cast<int>(reason.size()), reason.data());
    }
  }

  std::uint64_t differences() const { return differences_; }
  std::uint64_t instructions() const { return oracle_.instructions(); }

 private:
  Oracle oracle_;
  std::uint64_t differences_ = 0;
};

void SweepFile(const std::string& path, Judge& judge) {
  for (const CodeSection& section : ReadCodeSections(path)) {
    std::span<const std::uint8_t> rest = section.bytes;
    while (!rest.empty()) rest = rest.subspan(judge.Check(rest));
  }
}

// Each file once, though it has many names.
void SweepTree(const std::filesystem::path& root, Judge& judge) {
  std::uint64_t files = 0;
  std::error_code error;
  const auto options = std::filesystem::directory_options::skip_permission_denied;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root, options, error)) {
    if (!entry.is_regular_file(error) || entry.is_symlink(error)) continue;
    const std::uint64_t before = judge.instructions();
    SweepFile(entry.path(), judge);
    if (judge.instructions() == before) continue;
    if (++files % 100 == 0) {
      std::printf("%llu files, %llu instructions\n", static_cast<unsigned long long>(files),
                  static_cast<unsigned long long>(judge.instructions()));
      std::fflush(stdout);
    }
  }
  std::printf("%llu ELF files below %s\n", static_cast<unsigned long long>(files), root.c_str());
}

// Strings that often are instructions: random bytes behind prefixes, escapes, VEX or EVEX whose
// opcode is one the table knows in half of the cases.
class Generator {
 public:
  explicit Generator(std::uint64_t seed) : random_(seed) {}

  std::span<const std::uint8_t> Next() {
    for (std::size_t i = 0; i < kSize; i += sizeof(std::uint64_t)) {
      const std::uint64_t word = random_();
      std::memcpy(&bytes_[i], &word, sizeof word);
    }
    start_ = kHeadSize;
    switch (Below(8)) {
      case 0:  // only noise
        break;
      case 1:
      case 2:
        AddLegacy(0);
        break;
      case 3:
        AddLegacy(1);
        break;
      case 4:
        AddLegacy(2 + Below(2));
        break;
      case 5:
        AddVex();
        break;
      case 6:
      case 7:
        AddEvex();
        break;
    }
    // Now and then cut: what is missing must not matter to who is right.
    const std::size_t size = kSize - start_;
    return std::span(bytes_).subspan(start_, Below(8) == 0 ? kMaxLength : size);
  }

 private:
  static constexpr std::size_t kHeadSize = 16, kSize = 96, kMaxLength = 15;

  unsigned Below(unsigned bound) { return static_cast<unsigned>(random_() >> 32) % bound; }
  void Push(unsigned byte) { bytes_[--start_] = static_cast<std::uint8_t>(byte); }

  void PushOpcode(unsigned group) {
    if (Below(2) == 0) return;
    const auto& first = kOpcodes.first[group];
    unsigned opcode = Below(256);
    for (unsigned i = 0; i < 256 && first[opcode] == 0; ++i) opcode = (opcode + 1) % 256;
    Push(opcode);
  }

  void PushPrefixes() {
    constexpr std::array<std::uint8_t, 14> kPrefixes = {0x66, 0x66, 0xf2, 0xf2, 0xf3, 0xf3, 0x67,
                                                        0x64, 0x65, 0x2e, 0x36, 0x3e, 0x26, 0xf0};
    if (Below(2) == 0) Push(0x40 | Below(16));
    for (unsigned i = 0; i < 5 && Below(2) == 0; ++i) Push(kPrefixes[Below(kPrefixes.size())]);
  }

  void AddLegacy(unsigned map) {
    PushOpcode(map == 0 ? 0 : kLegacyGroup + 4 * (map - 1) + Below(4));
    if (map == 2) Push(0x38);
    if (map == 3) Push(0x3a);
    if (map != 0) Push(0x0f);
    PushPrefixes();
  }

  // vvvv, and EVEX's aaa, b, z and V', are often unused.
  void AddVex() {
    const unsigned map = 1 + Below(3), prefix = Below(4);
    const unsigned unused_vvvv = Below(2) == 0 ? 0x78 : 0;
    PushOpcode(kVexGroup + 4 * (map - 1) + prefix);
    Push((Below(64) << 2 & 0xfc) | prefix | unused_vvvv);
    if (map == 1 && Below(2) == 0) return Push(0xc5);
    Push(Below(8) << 5 | (Below(16) == 0 ? Below(32) : map));
    Push(0xc4);
    if (Below(16) == 0) PushPrefixes();
  }

  void AddEvex() {
    constexpr std::array<std::uint8_t, 5> kMaps = {1, 2, 3, 5, 6};
    const unsigned map = kMaps[Below(kMaps.size())], prefix = Below(4);
    unsigned third = Below(256);
    if (Below(2) == 0) third &= ~0x90u;
    if (Below(2) == 0) third &= ~0x07u;
    if (Below(2) == 0) third |= 0x08;
    unsigned second = Below(256) & 0xf8;
    if (Below(2) == 0) second |= 0x78;
    if (Below(32) != 0) second |= 0x04;
    unsigned first = Below(16) << 4 | map;
    if (Below(2) == 0) first |= 0x10;
    if (Below(32) == 0) first ^= Below(16);
    PushOpcode(kEvexMapGroup[map] + prefix);
    Push(third);
    Push(second | prefix);
    Push(first);
    Push(0x62);
    if (Below(16) == 0) PushPrefixes();
  }

  std::mt19937_64 random_;
  std::array<std::uint8_t, kSize> bytes_{};
  std::size_t start_ = 0;
};

void CheckRandom(std::uint64_t count, std::uint64_t seed, Judge& judge) {
  Generator generator(seed);
  for (std::uint64_t i = 0; i < count; ++i) judge.Check(generator.Next());
}

// Every ModRM byte of every opcode of a map, behind `head`. What follows is the same each time.
void CheckOpcodes(std::span<const std::uint8_t> head, std::uint8_t sib,
                  std::span<const std::uint8_t> modrms, Judge& judge) {
  std::array<std::uint8_t, 64> bytes;
  bytes.fill(0x11);
  std::ranges::copy(head, bytes.begin());
  bytes[head.size() + 2] = sib;
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    bytes[head.size()] = static_cast<std::uint8_t>(opcode);
    for (const std::uint8_t modrm : modrms) {
      bytes[head.size() + 1] = modrm;
      judge.Check(bytes);
    }
  }
}

std::vector<std::uint8_t> AllModrms() {
  std::vector<std::uint8_t> all(256);
  std::iota(all.begin(), all.end(), std::uint8_t{0});
  return all;
}

void CheckLegacyEncodings(Judge& judge) {
  using Bytes = std::vector<std::uint8_t>;
  const Bytes all = AllModrms();
  const Bytes maps[] = {{}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}};
  const Bytes prefixes[] = {{},           {0x66},       {0xf3},       {0xf2},       {0xf0},
                            {0x48},       {0x41},       {0x44},       {0x42},       {0x4f},
                            {0x66, 0x48}, {0xf3, 0x48}, {0xf2, 0x48}, {0xf3, 0x66}, {0xf2, 0x66},
                            {0x67},       {0x65},       {0xf0, 0x48}, {0xf0, 0xf3}, {0xf3, 0x4f}};
  for (const Bytes& map : maps) {
    for (const Bytes& prefix : prefixes) {
      Bytes head = prefix;
      head.insert(head.end(), map.begin(), map.end());
      CheckOpcodes(head, 0x25, all, judge);
    }
  }
}

// Each payload byte takes the values that tell its fields apart.
void CheckVexEncodings(Judge& judge) {
  for (std::uint8_t first = 0; first < 8; ++first) {
    for (unsigned second = 0; second < 256; ++second) {
      const unsigned vvvv = second >> 3 & 15;
      if (vvvv != 15 && vvvv != 8 && vvvv != 7 && vvvv != 0) continue;
      for (std::uint8_t map = 1; map < 4; ++map) {
        const std::uint8_t head[] = {0xc4, static_cast<std::uint8_t>(first << 5 | map),
                                     static_cast<std::uint8_t>(second)};
        CheckOpcodes(head, 0x91, AllModrms(), judge);
      }
    }
  }
}

void CheckEvexEncodings(Judge& judge) {
  constexpr std::uint8_t kModrms[] = {0xc0, 0xc9, 0xfa, 0xd5, 0xe6, 0x04, 0x0c, 0x14,
                                      0x24, 0x3c, 0x6c, 0x05, 0x0e, 0x40, 0x91};
  constexpr std::uint8_t kThirds[] = {0x08, 0x28, 0x48, 0x68, 0x18, 0x58, 0x09, 0x89,
                                      0x88, 0x00, 0x99, 0x41, 0xc9, 0x49, 0x51, 0x1a};
  for (const unsigned extensions : {15, 14, 7, 11, 13, 0}) {
    for (unsigned map = 0; map < 8; ++map) {
      for (unsigned second = 0; second < 256; ++second) {
        const unsigned vvvv = second >> 3 & 15;
        if ((second & 4) == 0 || (vvvv != 15 && vvvv != 8 && vvvv != 0)) continue;
        for (const std::uint8_t third : kThirds) {
          const std::uint8_t head[] = {0x62, static_cast<std::uint8_t>(extensions << 4 | map),
                                       static_cast<std::uint8_t>(second), third};
          CheckOpcodes(head, 0x91, kModrms, judge);
        }
      }
    }
  }
}

std::vector<std::string> FilesToSweep() {
  const std::string libraries = "/lib/x86_64-linux-gnu/";
  std::vector<std::string> paths = {"/bin/bash", "/usr/bin/python3"};
  for (const char* name : {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libcrypto.so.3",
                           "libpython3.11.so.1.0", "libgmp.so.10", "libavcodec.so.59"}) {
    paths.push_back(libraries + name);
  }
  paths.emplace_back("/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus");
  std::erase_if(paths, [](const std::string& path) { return !std::filesystem::exists(path); });
  return paths;
}

TEST(DecoderAgainstZydis, InstalledCodeIsDecodedTheSame) {
  Judge judge;
  for (const std::string& path : FilesToSweep()) SweepFile(path, judge);
  judge.PrintSummary();
  EXPECT_EQ(judge.differences(), 0);
  EXPECT_GT(judge.instructions(), 300'000);
}

TEST(DecoderAgainstZydis, EveryLegacyOpcodeAndModrmIsDecodedTheSame) {
  Judge judge;
  CheckLegacyEncodings(judge);
  judge.PrintSummary();
  EXPECT_EQ(judge.differences(), 0);
}

TEST(DecoderAgainstZydis, TheSameRandomStringsAreDecodedTheSame) {
  Judge judge;
  CheckRandom(1'000'000, 20121121, judge);
  judge.PrintSummary();
  EXPECT_EQ(judge.differences(), 0);
}

TEST(DecoderAgainstZydis, OtherRandomStringsAreDecodedTheSame) {
  const std::uint64_t seed = std::random_device()();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  Judge judge;
  CheckRandom(1'000'000, seed, judge);
  judge.PrintSummary();
  EXPECT_EQ(judge.differences(), 0);
}

int Finish(const Judge& judge) {
  judge.PrintSummary();
  return judge.differences() == 0 ? 0 : 1;
}

}  // namespace

int RunByHand(int argc, char** argv) {
  const std::string_view mode = argv[1];
  Judge judge;
  if (mode == "--sweep") {
    for (int i = 2; i < argc; ++i) SweepFile(argv[i], judge);
    return Finish(judge);
  }
  if (mode == "--sweep-all") {
    SweepTree("/usr", judge);
    return Finish(judge);
  }
  if (mode == "--encodings") {
    CheckLegacyEncodings(judge);
    CheckVexEncodings(judge);
    CheckEvexEncodings(judge);
    return Finish(judge);
  }
  if (mode == "--random" && argc == 4) {
    CheckRandom(std::strtoull(argv[2], nullptr, 0), std::strtoull(argv[3], nullptr, 0), judge);
    return Finish(judge);
  }
  std::fprintf(stderr,
               "usage: %s [--sweep FILE... | --sweep-all | --random COUNT SEED | --encodings]\n",
               argv[0]);
  return 2;
}

}  // namespace dunebox::jit

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);  // takes its own options away
  if (argc > 1) return dunebox::jit::RunByHand(argc, argv);
  return RUN_ALL_TESTS();
}
