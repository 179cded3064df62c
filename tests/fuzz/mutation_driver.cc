// Runs a fuzzer's entry point without libFuzzer: mutations of seed files from a
// fixed random seed, so every build without clang checks the same inputs in the
// same order. It knows nothing about coverage; tests/fuzz/run does that.
//
//   elf_image_mutation_test SECONDS SEED_DIRECTORY
//
// When an input crashes, it is left behind in mutation-crash.bin.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

constexpr std::size_t kMaxInputSize = 8192;
constexpr const char* kCrashFile = "mutation-crash.bin";

Input current_input;  // What a crash handler has to save.

// Values that break size arithmetic.
constexpr std::uint64_t kEdges[] = {
    0,          1,          2,          7,           0xff,        0xfff,       0x1000,
    0x1001,     0xffff,     0x1'0000,   0x7fff'ffff, 0x8000'0000, 0xffff'ffff, 0x1'0000'0000,
    1ull << 46, 1ull << 47, 1ull << 62, 1ull << 63,  ~0ull,       ~0ull - 4095};

class Mutator {
 public:
  explicit Mutator(std::vector<Input> seeds) : seeds_(std::move(seeds)) {}

  Input Next() {
    Input input = seeds_[Below(seeds_.size())];
    for (std::size_t rounds = 1 + Below(6); rounds > 0; --rounds) MutateOnce(input);
    return input;
  }

 private:
  std::size_t Below(std::size_t bound) { return bound == 0 ? 0 : random_() % bound; }
  // Most of a program's meaning is near its start.
  std::size_t Position(const Input& input) {
    return Below(Below(4) == 0 ? input.size() : std::min<std::size_t>(input.size(), 1024));
  }

  void MutateOnce(Input& input) {
    if (input.empty()) input.push_back(0);
    switch (Below(6)) {
      case 0:
        input[Position(input)] ^= static_cast<std::uint8_t>(1u << Below(8));
        break;
      case 1:
        input[Position(input)] = static_cast<std::uint8_t>(random_());
        break;
      case 2:
        StoreWord(input, kEdges[Below(std::size(kEdges))]);
        break;
      case 3:
        StoreWord(input, random_() >> Below(64));
        break;
      case 4:
        CopyBlock(input);
        break;
      case 5:
        // Rarely, because little of a cut input is left to be wrong.
        if (Below(8) == 0) input.resize(Below(input.size()));
        break;
    }
  }

  void StoreWord(Input& input, std::uint64_t value) {
    const std::size_t width = std::size_t{1} << Below(4);
    if (input.size() < width) return;
    // Aligned fields are what a format is made of.
    const std::size_t at = std::min(Position(input), input.size() - width) & ~(width - 1);
    std::memcpy(input.data() + at, &value, width);
  }

  void CopyBlock(Input& input) {
    const std::size_t size = 1 + Below(std::min<std::size_t>(input.size(), 128));
    const std::size_t from = std::min(Position(input), input.size() - size);
    const std::size_t to = std::min(Position(input), input.size() - size);
    std::memmove(input.data() + to, input.data() + from, size);
  }

  std::vector<Input> seeds_;
  std::mt19937_64 random_{20120908};
};

extern "C" void SaveCurrentInput(int signal) {
  const int fd = open(kCrashFile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd >= 0 && write(fd, current_input.data(), current_input.size()) >= 0) close(fd);
  std::signal(signal, SIG_DFL);
  raise(signal);
}

std::vector<Input> ReadSeeds(const char* directory) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    paths.push_back(entry.path());
  }
  std::ranges::sort(paths);  // The order is part of the fixed seed.
  std::vector<Input> seeds;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    Input input{std::istreambuf_iterator<char>(file), {}};
    input.resize(std::min(input.size(), kMaxInputSize));
    seeds.push_back(std::move(input));
  }
  return seeds;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s SECONDS SEED_DIRECTORY\n", argv[0]);
    return 2;
  }
  const std::vector<Input> seeds = ReadSeeds(argv[2]);
  if (seeds.empty()) {
    std::fprintf(stderr, "no seeds in %s\n", argv[2]);
    return 2;
  }
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    std::signal(signal, SaveCurrentInput);
  }
  for (const Input& seed : seeds) LLVMFuzzerTestOneInput(seed.data(), seed.size());

  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(argv[1]));
  Mutator mutator(seeds);
  std::uint64_t runs = 0;
  for (; std::chrono::steady_clock::now() < end; ++runs) {
    current_input = mutator.Next();
    LLVMFuzzerTestOneInput(current_input.data(), current_input.size());
  }
  std::printf("%llu mutated inputs, no finding\n", static_cast<unsigned long long>(runs));
  return 0;
}
