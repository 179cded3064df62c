#include "hostcalls/services/counted_output.h"

#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string_view>

#include "hostcalls/services/limits.h"
#include "hostcalls/services/output_meter.h"
#include "hostcalls/services/path_calls.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

constexpr int kBuffers = -1;

struct OutputCall {
  std::string_view call;
  int descriptor;
  int length;  // or kBuffers
};
constexpr OutputCall kOutputCalls[] = {
#define OUTPUT(call, descriptor, length) {#call, descriptor, length},
#define OUTPUT_OF_BUFFERS(call, descriptor) {#call, descriptor, kBuffers},
#include "hostcalls/services/output_calls.inc"
#undef OUTPUT_OF_BUFFERS
#undef OUTPUT
};

const OutputCall* OutputCallOf(const Row& row) {
  static const auto by_number = [] {
    std::array<const OutputCall*, kSyscallTableSize> calls{};
    for (const OutputCall& call : kOutputCalls) calls[FindRow(call.call)->number] = &call;
    return calls;
  }();
  return by_number[row.number];
}

// Of a prepared array, whose lengths have been checked one by one.
std::uint64_t SizeOf(const ArgumentValues& values) {
  const std::span buffers(reinterpret_cast<const iovec*>(values[1]), values[2]);
  std::uint64_t size = 0;
  for (const iovec& buffer : buffers) size += buffer.iov_len;
  return size;
}

std::uint64_t WrittenBy(SyscallResult result) {
  return result.ok() ? static_cast<std::uint64_t>(result.value()) : 0;
}

}  // namespace

SyscallResult CallWithinOutput(Caller& caller, int fd, std::uint64_t bytes, Partly partly,
                               absl::FunctionRef<SyscallResult(std::uint64_t granted)> call) {
  OutputMeter& meter = *caller.limits.output;
  const DescriptorChanges& changes = caller.limits.descriptor_changes;
  const std::optional<std::uint32_t> before = changes.Stamp(fd);
  if (meter.IsOutput(fd)) {
    const std::uint64_t granted = meter.Take(bytes);
    if (granted < bytes && (granted == 0 || partly == Partly::kNever)) meter.ReachLimit();
    const SyscallResult result = call(granted);
    meter.GiveBack(granted - std::min(granted, WrittenBy(result)));
    return result;
  }
  const SyscallResult result = call(bytes);
  const bool is_sure = before && changes.Stamp(fd) == before;
  if (!is_sure && !meter.Add(WrittenBy(result))) meter.ReachLimit();
  return result;
}

SyscallResult CallForwarded(Caller& caller, const Row& row, const ArgumentValues& values) {
  if (caller.limits.output == nullptr) return CallWithPaths(caller, row, values);
  if (row.number == SYS_close) {
    const auto fd = static_cast<unsigned>(values[0]);
    const DescriptorChanges::Change change(caller.limits.descriptor_changes, fd, fd);
    return CallWithPaths(caller, row, values);
  }
  const OutputCall* const output = OutputCallOf(row);
  if (output == nullptr) return CallWithPaths(caller, row, values);
  const int fd = AsInt(values[static_cast<std::size_t>(output->descriptor)]);
  if (output->length == kBuffers) {
    return CallWithinOutput(caller, fd, SizeOf(values), Partly::kNever, [&](std::uint64_t) {
      return CallWithPaths(caller, row, values);
    });
  }
  const auto length = static_cast<std::size_t>(output->length);
  return CallWithinOutput(caller, fd, values[length], Partly::kMayBe, [&](std::uint64_t granted) {
    ArgumentValues less = values;
    less[length] = granted;
    return CallWithPaths(caller, row, less);
  });
}

}  // namespace dunebox::hostcalls
