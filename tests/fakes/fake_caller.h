// A thread without a runtime, for code of hostcalls/ that only asks for memory and descriptors.
#ifndef DUNEBOX_TESTS_FAKES_FAKE_CALLER_H_
#define DUNEBOX_TESTS_FAKES_FAKE_CALLER_H_

#include <cstddef>
#include <string>

#include "hostcalls/dispatch/caller.h"

namespace dunebox::fakes {

struct FakeProcess final : hostcalls::ProcessView {
  std::string executable_path() const override { return "/bin/fake"; }
  std::string FormatMaps() const override { return ""; }
};

struct FakeCaller final : hostcalls::Caller {
  FakeCaller()
      : Caller(kMemory, process_, reinterpret_cast<hostcalls::VirtualLimits&>(no_limits_),
               {.first = 1000, .count = 24}) {}

 private:
  static constexpr hostcalls::GuestMemory kMemory{hostcalls::Window::WholeProgram()};
  FakeProcess process_;
  // Never looked at: what is tested with this caller has nothing to do with limits.
  alignas(64) std::byte no_limits_[1024] = {};
};

}  // namespace dunebox::fakes

#endif  // DUNEBOX_TESTS_FAKES_FAKE_CALLER_H_
