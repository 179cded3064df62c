// A host in C++ that is opened at run time, with the library in it: as late_library.c has it of the C API.
#include <cstdio>
#include <string>

#include "dunebox/sandbox.h"

extern "C" int late_host(int is_refused) {
  using namespace dunebox;
  int failures = 0;
  const auto expect = [&](bool is_so, const char* what, const absl::Status& status) {
    if (is_so) return;
    std::fprintf(stderr, "not so: %s (%s)\n", what, std::string(status.message()).c_str());
    ++failures;
  };
  const absl::Status guarded = Sandbox::Create({}).status();
  expect(guarded.ok() != (is_refused != 0), "guarded handlers are refused here, and only here", guarded);
  expect(guarded.ok() || absl::IsFailedPrecondition(guarded), "it says why", guarded);
  const absl::Status opened = Sandbox::Open("/no/such/file", {}).status();
  expect(absl::IsFailedPrecondition(opened) == (is_refused != 0), "a saved one is refused as well", opened);
  const absl::Status promised = Sandbox::Create({.late_handlers = LateHandlers::kNone}).status();
  expect(promised.ok(), "who promises may have one", promised);
  return failures;
}
