#include "sandbox/compartment/ring0_thread.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "libdune/general_registers.h"
#include "libdune/extended_area.h"
#include "libdune/x86/control.h"

namespace dunebox::compartment {
namespace {

runtime::Exit ExitOf(const dune::Stop& stop) {
  switch (stop.reason) {
    case dune::StopReason::kSystemCall:
      return runtime::SystemCall{};
    case dune::StopReason::kFault:
      return runtime::Fault{.vector = static_cast<dune::x86::Vector>(stop.vector),
                            .error_code = stop.error,
                            .address = stop.address,
                            .memory_error = false};
    case dune::StopReason::kTime:
    case dune::StopReason::kInterrupted:
      break;
  }
  return runtime::Interrupted{};
}

}  // namespace

runtime::Exit Ring0Thread::Run(runtime::Registers& registers) {
  if (is_kicked_.load(std::memory_order_seq_cst)) return runtime::Interrupted{};
  dune::CopyGeneralRegisters(registers, context_);
  context_.fs_base = registers.fs_base, context_.gs_base = registers.gs_base;
  const absl::StatusOr<dune::Stop> stop = dune::RunUser(context_, space_.table());
  // Bases that it has set itself, or an address behind the last: no processor would have gone on there.
  if (absl::IsInvalidArgument(stop.status())) {
    return runtime::Fault{.vector = dune::x86::Vector::kGeneralProtection,
                          .error_code = 0,
                          .address = 0,
                          .memory_error = false};
  }
  if (!stop.ok()) return runtime::EngineFailure{std::string(stop.status().message())};
  dune::CopyGeneralRegisters(context_, registers);
  registers.fs_base = context_.fs_base, registers.gs_base = context_.gs_base;
  return ExitOf(*stop);
}

std::size_t Ring0Thread::extended_state_size() const {
  static const std::size_t size = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    __get_cpuid_count(0xd, 0, &a, &b, &c, &d);
    return std::min<std::size_t>(b, std::tuple_size_v<decltype(dune::UserContext::extended)>);
  }();
  return size;
}

absl::Status Ring0Thread::SaveExtendedState(std::span<std::byte> area) {
  std::memcpy(area.data(), context_.extended.data(), std::min(area.size(), context_.extended.size()));
  return absl::OkStatus();
}

absl::Status Ring0Thread::LoadExtendedState(std::span<const std::byte> area) {
  std::memcpy(context_.extended.data(), area.data(), std::min(area.size(), context_.extended.size()));
  return absl::OkStatus();
}

std::uint64_t Ring0Thread::extended_features() const {
  static const std::uint64_t features = [] {
    std::uint32_t low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return std::uint64_t{high} << 32 | low;
  }();
  return features;
}

}  // namespace dunebox::compartment
