// Which system calls the runtime may make from the first guest instruction on, as rules, and the
// filter that libseccomp makes of them. [DESIGN D6, D7]
//
// Generated from data: THE table (what the dispatcher forwards), runtime_calls.inc (what the
// runtime and the handlers issue besides), call_forms.inc (calls that are permitted in some forms
// only) and the tables of the handlers (ioctl, fcntl, prctl). What is in none of them kills the
// process: no handler may ever issue it. A policy makes it narrower, never wider.
//
//   std::vector<FilterRule> rules = FilterRules({.code_cache = 256 << 20}, session_rules);
//   if (absl::Status status = LoadFilter(rules); !status.ok()) return status;
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_HOST_FILTER_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_HOST_FILTER_H_

#include <linux/filter.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/policy/rules.h"

namespace dunebox::confinement {

// (argument & mask) == value, on the register as the kernel gets it.
struct ArgumentTest {
  std::uint8_t argument = 0;
  std::uint64_t mask = ~std::uint64_t{0};
  std::uint64_t value = 0;
};

// A form of a call: all tests hold. Forms of one call are alternatives.
struct FilterRule {
  std::uint16_t number = 0;
  std::uint16_t error = 0;  // what the call gives instead of being made; 0: it is made
  std::vector<ArgumentTest> tests;
  std::string_view reason;
};

// What the session's engine needs of the kernel.
struct FilterSubject {
  bool kvm = false;              // virtual machines
  std::size_t code_cache = 0;    // bytes that each process maps executable, once; 0: none
  bool protection_keys = false;  // isolation pku
  bool sealed_memfds = false;    // the kernel can seal a memfd against being executed
};

std::vector<FilterRule> FilterRules(const FilterSubject& subject,
                                    const hostcalls::policy::Rules& rules);

// An option of prctl that no kernel has, and the errno that the filter and nothing else gives it:
// how a runtime knows that this filter is in force, whatever others are.
inline constexpr std::uint32_t kMarkOption = 0x44424f58;  // "DBOX"
inline constexpr std::uint16_t kMarkError = 33;           // EDOM

// Does the kernel have filters that end a process?
bool HasFilters();
// The program that libseccomp makes of them.
absl::StatusOr<std::vector<sock_filter>> CompileFilter(const std::vector<FilterRule>& rules);
// The same, in force at once. Needs no file, unlike CompileFilter.
absl::Status MakeAndLoadFilter(const std::vector<FilterRule>& rules);
// On the calling thread, for ever. It has to be the process's only one. With a program that was made before, if there is
// one (prebuilt_filters.h).
absl::Status LoadFilter(const std::vector<FilterRule>& rules);

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_HOST_FILTER_H_
