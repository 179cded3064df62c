// Runs while Dunebox is built: writes the source file with what PrebuiltFilters() gives to standard output. Sessions
// without rules about system calls differ in engine, keys and how far their network reaches.
#include <seccomp.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/confinement/filter_words.h"
#include "runtime/confinement/host_filter.h"
#include "runtime/jit/code_cache_size.h"

namespace {

using dunebox::confinement::CompileFilter;
using dunebox::confinement::FilterRules;
using dunebox::confinement::FilterSubject;
using dunebox::hostcalls::policy::Reach;
using dunebox::hostcalls::policy::Rules;

// With the seal that kernels have since 6.3: on older ones the filter is made when it is needed.
constexpr FilterSubject kSubjects[] = {
    {.code_cache = dunebox::runtime::kDefaultJitCacheBytes, .sealed_memfds = true},
    {.code_cache = dunebox::runtime::kDefaultJitCacheBytes, .protection_keys = true, .sealed_memfds = true},
    {.kvm = true, .sealed_memfds = true},
};
constexpr Reach kReaches[] = {Reach::kNone, Reach::kLoopback, Reach::kListed, Reach::kHost};

void PrintFilter(std::string& table, int number, const std::vector<std::uint64_t>& words,
                 const std::vector<sock_filter>& program) {
  std::printf("constexpr std::uint64_t kRules%d[] = {", number);
  for (const std::uint64_t word : words) std::printf("0x%llx,", static_cast<unsigned long long>(word));
  std::printf("};\nconstexpr sock_filter kProgram%d[] = {", number);
  for (const sock_filter& code : program) std::printf("{%u,%u,%u,%u},", code.code, code.jt, code.jf, code.k);
  std::printf("};\n");
  absl::StrAppend(&table, "{kRules", number, ",kProgram", number, "},");
}

}  // namespace

int main() {
  // With what sessions find: this machine's kernel will never see the filters, whatever it has.
  constexpr unsigned kEndsProcesses = 3;  // seccomp_api_get(3): SCMP_ACT_KILL_PROCESS
  if (seccomp_api_set(kEndsProcesses) != 0) {
    std::fprintf(stderr, "this libseccomp is too old\n");
    return 1;
  }
  std::printf("#include \"runtime/confinement/prebuilt_filters.h\"\n"
              "namespace dunebox::confinement {\nnamespace {\n");
  std::string table;
  std::vector<std::vector<std::uint64_t>> printed;
  for (const FilterSubject& subject : kSubjects) {
    for (const Reach reach : kReaches) {
      Rules rules;
      rules.allow_all = false;
      rules.network.reach = reach;
      const auto filter_rules = FilterRules(subject, rules);
      const std::vector<std::uint64_t> words = dunebox::confinement::WordsOf(filter_rules);
      if (std::find(printed.begin(), printed.end(), words) != printed.end()) continue;
      const absl::StatusOr<std::vector<sock_filter>> program = CompileFilter(filter_rules);
      if (!program.ok()) {
        std::fprintf(stderr, "%s\n", std::string(program.status().message()).c_str());
        return 1;
      }
      PrintFilter(table, static_cast<int>(printed.size()), words, *program);
      printed.push_back(words);
    }
  }
  std::printf("constexpr PrebuiltFilter kFilters[] = {%s};\n}  // namespace\n"
              "std::span<const PrebuiltFilter> PrebuiltFilters() { return kFilters; }\n"
              "}  // namespace dunebox::confinement\n", table.c_str());
  return 0;
}
