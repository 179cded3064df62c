// usage: libdune_test [--backend=best|ring0|software] [--dirty=best|kernel|faults] [GoogleTest's options]
#include <cstdio>
#include <string_view>

#include "tests/libdune/entered.h"

namespace dune::testing {
namespace {

EnterOptions options;

struct Choice {
  std::string_view argument;
  void (*choose)();
};

constexpr Choice kChoices[] = {
    {"--backend=best", [] { options.backend = Wanted::kBest; }},
    {"--backend=ring0", [] { options.backend = Wanted::kRing0; }},
    {"--backend=software", [] { options.backend = Wanted::kSoftware; }},
    {"--dirty=best", [] { options.dirty_method = DirtyMethod::kBest; }},
    {"--dirty=kernel", [] { options.dirty_method = DirtyMethod::kKernel; }},
    {"--dirty=faults", [] { options.dirty_method = DirtyMethod::kFaults; }},
};

bool Choose(std::string_view argument) {
  for (const Choice& choice : kChoices) {
    if (choice.argument != argument) continue;
    choice.choose();
    return true;
  }
  return false;
}

}  // namespace

const EnterOptions& WantedOptions() { return options; }

}  // namespace dune::testing

// A sanitizer would take the faults that are to end a child by their signal. Nobody calls this without one.
// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:use_sigaltstack=0";
}
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  for (int index = 1; index < argc; ++index) {
    if (dune::testing::Choose(argv[index])) continue;
    std::fprintf(stderr, "dunebox: libdune_test does not know %s\n", argv[index]);
    return 2;
  }
  return RUN_ALL_TESTS();
}
