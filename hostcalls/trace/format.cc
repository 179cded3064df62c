#include "hostcalls/trace/format.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include <algorithm>
#include <optional>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "hostcalls/trace/text.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::uint64_t kShownStrings = 32;  // of an argv, and of each so many bytes:
constexpr std::size_t kShownStringBytes = 128;
constexpr std::uint64_t kCountedStrings = 4096;  // of an envp, which is only counted
constexpr std::uint64_t kShownSetWords = 16;     // of an fd_set: 1024 descriptors
constexpr int kShownSetMembers = 16;

std::int32_t AsInt(std::uint64_t value) { return static_cast<std::int32_t>(value); }

// One call's arguments with the memory behind them.
class ArgumentReader {
 public:
  ArgumentReader(const GuestMemory& memory, const Row& row, const ArgumentValues& values)
      : memory_(memory), row_(row), values_(values) {}

  // The argument as it goes in.
  std::string Input(std::size_t index) const;
  // The argument as it has come out; nothing when it is no output.
  std::optional<std::string> Output(std::size_t index, std::uint64_t result) const;

 private:
  std::uint64_t LengthOf(const Argument& argument) const;
  std::string Bytes(std::uint64_t address, std::uint64_t length) const;
  std::string Text(std::uint64_t address, std::size_t limit) const;
  std::string TextArray(const Argument& argument, std::uint64_t address) const;
  std::string Struct(const Argument& argument, std::uint64_t address) const;
  std::string SetOfFds(std::uint64_t address, std::uint64_t bits) const;
  std::string Elements(const char* prefix, const Argument& argument, std::uint64_t address) const;
  std::string SocketAddress(std::uint64_t address, std::uint64_t length) const;
  std::string ReturnedSocketAddress(const Argument& argument, std::uint64_t address) const;

  const GuestMemory& memory_;
  const Row& row_;
  const ArgumentValues& values_;
};

// The value of the argument that holds the length, as wide as the kernel takes it.
std::uint64_t ArgumentReader::LengthOf(const Argument& argument) const {
  const auto index = static_cast<std::size_t>(argument.length_argument);
  const std::uint64_t value = values_[index];
  switch (row_.arguments[index].kind) {
    case ArgumentKind::kInt:
      return static_cast<std::uint64_t>(std::max(AsInt(value), 0));
    case ArgumentKind::kUnsigned:
      return static_cast<std::uint32_t>(value);
    default:
      return value;
  }
}

std::string ArgumentReader::Bytes(std::uint64_t address, std::uint64_t length) const {
  if (address == 0) return "NULL";
  char shown[kShownBufferBytes];
  const std::size_t count = std::min<std::uint64_t>(length, sizeof shown);
  if (!memory_.Read(address, std::as_writable_bytes(std::span(shown, count)))) {
    return AddressText(address);
  }
  return absl::StrCat(Quote({shown, count}, kNoLimit), length > count ? "..." : "");
}

std::string ArgumentReader::Text(std::uint64_t address, std::size_t limit) const {
  if (address == 0) return "NULL";
  const CopyResult<std::string> text =
      memory_.CopyInString(address, PATH_MAX - 1, Errno{ENAMETOOLONG});
  return text.ok() ? Quote(*text, limit) : AddressText(address);
}

std::string ArgumentReader::TextArray(const Argument& argument, std::uint64_t address) const {
  if (address == 0) return "NULL";
  const bool counted = argument.shape == Shape::kCounted;
  std::string text = "[";
  for (std::uint64_t i = 0;; ++i) {
    const CopyResult<std::uint64_t> element =
        memory_.CopyIn(GuestPtr<std::uint64_t>{address + i * sizeof(std::uint64_t)});
    if (!element.ok()) return AddressText(address);
    if (*element == 0) return counted ? absl::StrFormat("[%d strings]", i) : text + "]";
    if (counted && i == kCountedStrings) return absl::StrFormat("[over %d strings]", i);
    if (!counted && i == kShownStrings) return text + ", ...]";
    if (!counted) absl::StrAppend(&text, i == 0 ? "" : ", ", Text(*element, kShownStringBytes));
  }
}

std::string ArgumentReader::Struct(const Argument& argument, std::uint64_t address) const {
  std::int64_t words[2] = {};
  const std::uint32_t size = SizeOf(argument.shape);
  if (address == 0 || size == 0 ||
      !memory_.Read(address, std::as_writable_bytes(std::span(words)).first(size))) {
    return AddressText(address);
  }
  const auto bits = static_cast<std::uint64_t>(words[0]);
  switch (argument.shape) {
    case Shape::kInt:
      return absl::StrCat("[", AsInt(bits), "]");
    case Shape::kLong:
      return absl::StrCat("[", words[0], "]");
    case Shape::kIntPair:
      return absl::StrCat("[", AsInt(bits), ", ", AsInt(bits >> 32), "]");
    case Shape::kTimespec:
      return absl::StrCat("{tv_sec=", words[0], ", tv_nsec=", words[1], "}");
    case Shape::kTimeval:
      return absl::StrCat("{tv_sec=", words[0], ", tv_usec=", words[1], "}");
    case Shape::kSignalSet:
      return SignalSetText(bits);
    case Shape::kOpaque:
    case Shape::kCounted:
      return AddressText(address);
  }
  return AddressText(address);
}

std::string ArgumentReader::SetOfFds(std::uint64_t address, std::uint64_t bits) const {
  if (address == 0) return "NULL";
  std::array<std::uint64_t, kShownSetWords> words{};
  const std::size_t count = std::min((bits + 63) / 64, kShownSetWords);
  if (!memory_.Read(address, std::as_writable_bytes(std::span(words).first(count)))) {
    return AddressText(address);
  }
  std::string text;
  int members = 0;
  for (std::size_t fd = 0; fd < std::min<std::uint64_t>(bits, count * 64); ++fd) {
    if ((words[fd / 64] >> (fd % 64) & 1) == 0) continue;
    if (++members > kShownSetMembers) return absl::StrCat("[", text, " ...]");
    absl::StrAppend(&text, text.empty() ? "" : " ", fd);
  }
  return absl::StrCat("[", text, "]");
}

// How many there are, not what is in them.
std::string ArgumentReader::Elements(const char* prefix, const Argument& argument,
                                     std::uint64_t address) const {
  if (address == 0) return "NULL";
  return absl::StrCat(AddressText(address), prefix, "[", LengthOf(argument), "]");
}

std::string ArgumentReader::SocketAddress(std::uint64_t address, std::uint64_t length) const {
  if (address == 0) return "NULL";
  std::array<std::byte, sizeof(sockaddr_storage)> bytes{};
  const std::size_t count = std::min<std::uint64_t>(length, bytes.size());
  if (!memory_.Read(address, std::span(bytes).first(count))) return AddressText(address);
  return SocketAddressText(std::span(bytes).first(count));
}

// The kernel has stored how long the address is; it may be longer than the buffer was.
std::string ArgumentReader::ReturnedSocketAddress(const Argument& argument,
                                                  std::uint64_t address) const {
  const std::uint64_t pointer = values_[static_cast<std::size_t>(argument.length_argument)];
  const CopyResult<std::uint32_t> length = memory_.CopyIn(GuestPtr<std::uint32_t>{pointer});
  if (!length.ok()) return AddressText(address);
  return SocketAddress(address, *length);
}

std::string ArgumentReader::Input(std::size_t index) const {
  const Argument& argument = row_.arguments[index];
  const std::uint64_t value = values_[index];
  switch (argument.kind) {
    case ArgumentKind::kNone:
      return "";
    case ArgumentKind::kInt:
    case ArgumentKind::kFd:
    case ArgumentKind::kPid:
      return absl::StrCat(AsInt(value));
    case ArgumentKind::kDirFd:
      return AsInt(value) == AT_FDCWD ? "AT_FDCWD" : absl::StrCat(AsInt(value));
    case ArgumentKind::kUnsigned:
      return absl::StrCat(static_cast<std::uint32_t>(value));
    case ArgumentKind::kHex:
      return absl::StrFormat("0x%x", value);
    case ArgumentKind::kFlags:
      return FlagsText(value, argument.flag_set);
    case ArgumentKind::kSize:
      return absl::StrCat(value);
    case ArgumentKind::kOffset:
      return absl::StrCat(static_cast<std::int64_t>(value));
    case ArgumentKind::kMode:
      return absl::StrFormat("0%o", static_cast<std::uint32_t>(value));
    case ArgumentKind::kSignal:
      return SignalText(AsInt(value));
    case ArgumentKind::kPath:
    case ArgumentKind::kString:
      return Text(value, kNoLimit);
    case ArgumentKind::kStringArray:
      return TextArray(argument, value);
    case ArgumentKind::kBufferIn:
      return Bytes(value == 0 ? 0 : value + argument.size, LengthOf(argument));
    case ArgumentKind::kStructIn:
    case ArgumentKind::kStructInOut:
      return Struct(argument, value);
    case ArgumentKind::kArrayIn:
    case ArgumentKind::kArrayOut:
    case ArgumentKind::kArrayInOut:
      return Elements("", argument, value);
    case ArgumentKind::kIovecIn:
    case ArgumentKind::kIovecOut:
      return Elements(":iovec", argument, value);
    case ArgumentKind::kSockaddrIn:
      return SocketAddress(value, LengthOf(argument));
    case ArgumentKind::kFdSet:
      return SetOfFds(value, LengthOf(argument));
    case ArgumentKind::kAddress:
    case ArgumentKind::kBufferOut:
    case ArgumentKind::kStructOut:
    case ArgumentKind::kSockaddrOut:
    case ArgumentKind::kMessageIn:
    case ArgumentKind::kMessageOut:
      return AddressText(value);
  }
  return AddressText(value);
}

std::optional<std::string> ArgumentReader::Output(std::size_t index, std::uint64_t result) const {
  const Argument& argument = row_.arguments[index];
  const std::uint64_t value = values_[index];
  switch (argument.kind) {
    case ArgumentKind::kBufferOut: {
      // The call's result is how many bytes it wrote (or, of a length of 0, would have).
      const std::uint64_t length = LengthOf(argument);
      if (length == 0) return std::nullopt;
      return Bytes(value == 0 ? 0 : value + argument.size, std::min(result, length));
    }
    case ArgumentKind::kStructOut:
    case ArgumentKind::kStructInOut:
      return Struct(argument, value);
    case ArgumentKind::kSockaddrOut:
      return value == 0 ? "NULL" : ReturnedSocketAddress(argument, value);
    case ArgumentKind::kFdSet:
      return SetOfFds(value, LengthOf(argument));
    default:
      return std::nullopt;
  }
}

bool IsInput(ArgumentKind kind) {
  return kind == ArgumentKind::kStructInOut || kind == ArgumentKind::kFdSet;
}

}  // namespace

CallText::CallText(const GuestMemory& memory, const Row* row, const Request& request) {
  if (row == nullptr) {
    name_ = absl::StrFormat("syscall_0x%x", request.number);
    argument_count_ = kMaxArguments;
    for (std::size_t i = 0; i < arguments_.size(); ++i) {
      arguments_[i] = absl::StrFormat("0x%x", request.arguments[i]);
    }
    return;
  }
  name_ = row->name;
  argument_count_ = row->argument_count();
  const ArgumentReader reader(memory, *row, request.arguments);
  for (std::size_t i = 0; i < arguments_.size(); ++i) arguments_[i] = reader.Input(i);
}

void CallText::AddOutputs(const GuestMemory& memory, const Row* row, const Request& request,
                          SyscallResult result) {
  if (row == nullptr || !result.ok()) return;
  const ArgumentReader reader(memory, *row, request.arguments);
  for (std::size_t i = 0; i < arguments_.size(); ++i) {
    std::optional<std::string> output = reader.Output(i, result.ToRegister());
    if (!output || *output == arguments_[i]) continue;
    if (IsInput(row->arguments[i].kind)) {
      absl::StrAppend(&arguments_[i], " => ", *output);
    } else {
      arguments_[i] = *std::move(output);
    }
  }
}

std::string CallText::ToString() const {
  return absl::StrCat(name_, "(", absl::StrJoin(arguments(), ", "), ")");
}

std::string FormatEnter(const GuestMemory& memory, const Row* row, const Request& request) {
  return CallText(memory, row, request).ToString();
}

}  // namespace dunebox::hostcalls
