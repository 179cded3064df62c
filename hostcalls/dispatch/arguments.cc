#include "hostcalls/dispatch/arguments.h"

#include <limits.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

namespace dunebox::hostcalls {
namespace {

constexpr std::uint64_t kMostIovecs = 1024;  // UIO_MAXIOV [linux]

// How many bytes the kernel may touch behind a pointer argument.
struct Extent {
  std::uint64_t bytes = 0;
  bool overflow = false;
};

Extent ArrayExtent(std::uint64_t element_size, std::uint64_t count) {
  Extent extent;
  extent.overflow = __builtin_mul_overflow(element_size, count, &extent.bytes);
  return extent;
}

// A length or count at the width of its own argument: the kernel ignores the upper half of an int.
std::uint64_t LengthOf(const Row& row, const ArgumentValues& values, const Argument& argument) {
  const auto index = static_cast<std::size_t>(argument.length_argument);
  switch (row.arguments[index].kind) {
    case ArgumentKind::kInt:
    case ArgumentKind::kUnsigned:
      return values[index] & 0xffff'ffff;
    default:
      return values[index];
  }
}

Extent Sum(std::uint64_t left, std::uint64_t right) {
  Extent extent;
  extent.overflow = __builtin_add_overflow(left, right, &extent.bytes);
  return extent;
}

// An fd_set of n bits, in whole longs; a negative n is the kernel's EINVAL.
Extent FdSetExtent(std::uint64_t count) {
  const auto bits = static_cast<std::int32_t>(count);
  return {.bytes = bits <= 0 ? 0 : (static_cast<std::uint64_t>(bits) + 63) / 64 * 8};
}

// The bytes behind argument `index`, or nothing when the kind has no directly checked memory.
std::optional<Extent> ExtentOf(const Row& row, const ArgumentValues& values, std::size_t index) {
  const Argument& argument = row.arguments[index];
  const auto length = [&] { return LengthOf(row, values, argument); };
  switch (FactsOf(argument.kind).memory) {
    case PointedMemory::kHeaderAndLength:
      return Sum(length(), argument.size);  // msgsnd's buffers have a header before them
    case PointedMemory::kFdSet:
      return FdSetExtent(length());
    case PointedMemory::kLength:
      return Extent{.bytes = length()};
    case PointedMemory::kStruct:
      return Extent{.bytes = argument.size};
    case PointedMemory::kArray:
      return ArrayExtent(argument.size, length());
    case PointedMemory::kSocketAddress:
      // The kernel reads the length itself, but never writes more than this.
      return Extent{.bytes = sizeof(sockaddr_storage)};
    case PointedMemory::kMessage:
      return Extent{.bytes = sizeof(msghdr)};
    case PointedMemory::kOneByte:
      return Extent{.bytes = 1};
    case PointedMemory::kValue:
    case PointedMemory::kElsewhere:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

SyscallResult CheckArguments(const Caller& caller, const Row& row, const ArgumentValues& values) {
  for (std::size_t i = 0; i < row.arguments.size(); ++i) {
    const ArgumentKind kind = row.arguments[i].kind;
    if (kind == ArgumentKind::kNone) continue;
    if (kind == ArgumentKind::kFd || kind == ArgumentKind::kDirFd) {
      if (caller.reserved.Contains(values[i])) return Errno{EBADF};
      continue;
    }
    const std::optional<Extent> extent = ExtentOf(row, values, i);
    if (!extent || values[i] == 0) continue;
    if (extent->overflow || !caller.memory.Contains(values[i], extent->bytes)) {
      return Errno{EFAULT};
    }
  }
  return kSuccess;
}

bool MayTouch(const Row& row, const ArgumentValues& values,
              absl::FunctionRef<bool(const GuestRange&)> matters) {
  for (std::size_t i = 0; i < row.arguments.size(); ++i) {
    switch (FactsOf(row.arguments[i].kind).memory) {
      case PointedMemory::kValue:
        continue;
      case PointedMemory::kStruct:
      case PointedMemory::kArray:
      case PointedMemory::kLength:
      case PointedMemory::kHeaderAndLength:
      case PointedMemory::kFdSet: {
        const std::uint64_t start = values[i];
        const Extent extent = ExtentOf(row, values, i).value_or(Extent{.overflow = true});
        std::uint64_t end;
        if (extent.overflow || __builtin_add_overflow(start, extent.bytes, &end)) return true;
        if (matters({GuestVirt{start}, GuestVirt{end}})) return true;
        continue;
      }
      // What they point to leads further, or its length is there.
      case PointedMemory::kElsewhere:
      case PointedMemory::kOneByte:
      case PointedMemory::kSocketAddress:
      case PointedMemory::kMessage:
        return true;
    }
  }
  return false;
}

namespace {

// An array of struct iovec, which may be anything.
void ForEachBuffer(std::uint64_t array, std::uint64_t count, const GuestMemory& memory,
                   absl::FunctionRef<void(const GuestRange&)> visit) {
  for (std::uint64_t i = 0; i < std::min(count, kMostIovecs); ++i) {
    iovec element{};
    if (!memory.Read(array + i * sizeof(element), std::as_writable_bytes(std::span(&element, 1)))) return;
    const auto base = reinterpret_cast<std::uint64_t>(element.iov_base);
    visit({GuestVirt{base}, GuestVirt{base + element.iov_len}});
  }
}

void ForEachPartOfMessage(std::uint64_t address, const GuestMemory& memory,
                          absl::FunctionRef<void(const GuestRange&)> visit) {
  msghdr message{};
  if (!memory.Read(address, std::as_writable_bytes(std::span(&message, 1)))) return;
  const auto name = reinterpret_cast<std::uint64_t>(message.msg_name);
  const auto control = reinterpret_cast<std::uint64_t>(message.msg_control);
  visit({GuestVirt{address}, GuestVirt{address + sizeof(message)}});
  visit({GuestVirt{name}, GuestVirt{name + message.msg_namelen}});
  visit({GuestVirt{control}, GuestVirt{control + message.msg_controllen}});
  ForEachBuffer(reinterpret_cast<std::uint64_t>(message.msg_iov), message.msg_iovlen, memory, visit);
}

}  // namespace

void ForEachWritten(const Row& row, const ArgumentValues& values, const GuestMemory& memory,
                    absl::FunctionRef<void(const GuestRange&)> visit) {
  for (std::size_t i = 0; i < row.arguments.size(); ++i) {
    const KindFacts& facts = FactsOf(row.arguments[i].kind);
    if (values[i] == 0 || (facts.access != KernelAccess::kOut && facts.access != KernelAccess::kInOut)) continue;
    if (facts.memory == PointedMemory::kMessage) {
      ForEachPartOfMessage(values[i], memory, visit);
    } else if (facts.memory == PointedMemory::kElsewhere) {
      ForEachBuffer(values[i], LengthOf(row, values, row.arguments[i]), memory, visit);
    } else if (const std::optional<Extent> extent = ExtentOf(row, values, i)) {
      visit({GuestVirt{values[i]}, GuestVirt{values[i] + extent->bytes}});
    }
  }
}

CopyResult<std::vector<iovec>> CopyInIovec(const GuestMemory& memory, std::uint64_t address,
                                           std::uint64_t count) {
  if (count > kMostIovecs) return Errno{EINVAL};
  std::vector<iovec> elements(count);
  if (!memory.Read(address, std::as_writable_bytes(std::span(elements)))) return Errno{EFAULT};
  for (const iovec& element : elements) {
    if (static_cast<std::int64_t>(element.iov_len) < 0) return Errno{EINVAL};
    const auto base = reinterpret_cast<std::uint64_t>(element.iov_base);
    if (!memory.Contains(base, element.iov_len)) return Errno{EFAULT};
  }
  return elements;
}

bool NeedsCopies(const Row& row) {
  return std::ranges::any_of(row.arguments, [](const Argument& argument) {
    return argument.kind == ArgumentKind::kPath || argument.kind == ArgumentKind::kString ||
           argument.kind == ArgumentKind::kIovecIn || argument.kind == ArgumentKind::kIovecOut;
  });
}

SyscallResult PreparedArguments::CopyNested(const Row& row, int index) {
  const GuestMemory& memory = caller_.memory;
  const auto i = static_cast<std::size_t>(index);
  const Argument& argument = row.arguments[i];
  switch (argument.kind) {
    case ArgumentKind::kPath:
    case ArgumentKind::kString: {
      if (values_[i] == 0) return kSuccess;
      CopyResult<std::string> text =
          memory.CopyInString(values_[i], PATH_MAX - 1, Errno{ENAMETOOLONG});
      if (!text.ok()) return text.error();
      strings_[i] = *std::move(text);
      const std::span with_nul(strings_[i].data(), strings_[i].size() + 1);
      values_[i] = reinterpret_cast<std::uint64_t>(staged_.PlaceAll(with_nul).data());
      return kSuccess;
    }
    case ArgumentKind::kIovecIn:
    case ArgumentKind::kIovecOut: {
      const std::uint64_t count = LengthOf(row, values_, argument);
      CopyResult<std::vector<iovec>> elements = CopyInIovec(memory, values_[i], count);
      if (!elements.ok()) return elements.error();
      iovecs_ = *std::move(elements);
      values_[i] = reinterpret_cast<std::uint64_t>(staged_.PlaceAll(std::span(iovecs_)).data());
      return kSuccess;
    }
    default:
      return kSuccess;
  }
}

SyscallResult PreparedArguments::Prepare(const Row& row, const ArgumentValues& values) {
  if (SyscallResult checked = CheckArguments(caller_, row, values); !checked.ok()) return checked;
  values_ = values;
  for (int i = 0; i < kMaxArguments; ++i) {
    SyscallResult copied = CopyNested(row, i);
    if (!copied.ok()) return copied;
  }
  return kSuccess;
}

}  // namespace dunebox::hostcalls
