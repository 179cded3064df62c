// How fast Decode() reads real code: a linear sweep over the code sections of a file.
//
//   jit_decode_bench                                   # libc and, if installed, libcrypto
//   jit_decode_bench --benchmark_filter=libc
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "jit-fallback/decode/instruction.h"
#include "tests/unit/elf_code.h"

namespace dunebox::jit {
namespace {

void Sweep(benchmark::State& state, const std::vector<CodeSection>& sections) {
  std::int64_t instructions = 0, size = 0;
  for (auto _ : state) {
    for (const CodeSection& section : sections) {
      std::span<const std::uint8_t> rest = section.bytes;
      Instruction instruction;
      while (!rest.empty()) {
        Decode(rest, instruction);
        benchmark::DoNotOptimize(instruction);
        rest = rest.subspan(instruction.length <= rest.size() ? instruction.length : rest.size());
        ++instructions;
      }
      size += static_cast<std::int64_t>(section.bytes.size());
    }
  }
  state.SetBytesProcessed(size);
  state.counters["per_instruction"] = benchmark::Counter(
      static_cast<double>(instructions), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

}  // namespace
}  // namespace dunebox::jit

int main(int argc, char** argv) {
  for (const std::string name : {"libc.so.6", "libcrypto.so.3"}) {
    std::vector<dunebox::jit::CodeSection> sections =
        dunebox::jit::ReadCodeSections("/lib/x86_64-linux-gnu/" + name);
    if (sections.empty()) continue;
    benchmark::RegisterBenchmark(name.c_str(), dunebox::jit::Sweep, sections);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
