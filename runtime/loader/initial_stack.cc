#include "runtime/loader/initial_stack.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace dunebox::loader {
namespace {

constexpr std::string_view kPlatformName = "x86_64";
constexpr std::uint64_t kWordSize = sizeof(std::uint64_t);
constexpr std::uint64_t kTopGap = kWordSize;
constexpr std::uint64_t kStackAlignment = 16;

std::uint64_t SizeWithNul(std::string_view text) { return text.size() + 1; }

std::uint64_t TotalSize(std::span<const std::string> strings) {
  std::uint64_t total = 0;
  for (const std::string& text : strings) total += SizeWithNul(text);
  return total;
}

absl::Status CheckStrings(std::span<const std::string> strings, absl::string_view what) {
  for (std::size_t index = 0; index < strings.size(); ++index) {
    if (SizeWithNul(strings[index]) > kMaxArgumentString) {
      return absl::ResourceExhaustedError(absl::StrCat(what, " ", index, " has ",
                                                       strings[index].size(), " bytes, more than ",
                                                       kMaxArgumentString - 1));
    }
  }
  return absl::OkStatus();
}

// Linux charges the pointers and the executable's name, but not the auxiliary vector.
absl::Status CheckLimit(const StackContents& contents, std::uint64_t limit) {
  if (absl::Status status = CheckStrings(contents.arguments, "argument"); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckStrings(contents.environment, "environment string");
      !status.ok()) {
    return status;
  }
  const std::uint64_t pointers =
      (contents.arguments.size() + contents.environment.size()) * kWordSize;
  const std::uint64_t strings = TotalSize(contents.arguments) + TotalSize(contents.environment) +
                                SizeWithNul(contents.executable_name);
  if (pointers + strings > limit) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "arguments and environment take ", pointers + strings, " bytes, more than ", limit));
  }
  return absl::OkStatus();
}

// The addresses of all parts, from the top down.
absl::StatusOr<InitialStack> PlaceParts(const StackContents& contents, GuestVirt top) {
  const std::uint64_t name_size = SizeWithNul(contents.executable_name);
  const std::uint64_t environment_size = TotalSize(contents.environment);
  const std::uint64_t arguments_size = TotalSize(contents.arguments);
  const std::uint64_t platform_size = SizeWithNul(kPlatformName);
  const std::uint64_t strings_size = kTopGap + name_size + environment_size + arguments_size +
                                     platform_size + contents.random.size();
  const std::uint64_t auxv_size = (contents.auxv.size() + 1) * sizeof(AuxEntry);
  const std::uint64_t pointer_words =
      1 + (contents.arguments.size() + 1) + (contents.environment.size() + 1);
  const std::uint64_t pointers_size = pointer_words * kWordSize;
  if (strings_size + pointers_size + auxv_size + kStackAlignment > top.value) {
    return absl::ResourceExhaustedError("the initial stack does not fit below its top");
  }

  InitialStack stack = {};
  stack.executable_name = top - kTopGap - name_size;
  stack.env_end = stack.executable_name;
  stack.env_start = stack.env_end - environment_size;
  stack.arg_end = stack.env_start;
  stack.arg_start = stack.arg_end - arguments_size;
  stack.platform = stack.arg_start - platform_size;
  stack.random = stack.platform - contents.random.size();
  const std::uint64_t unaligned = (stack.random - pointers_size - auxv_size).value;
  stack.stack_pointer = {unaligned & ~(kStackAlignment - 1)};
  stack.auxv = stack.stack_pointer + pointers_size;
  stack.auxv_size = auxv_size;
  stack.bytes.resize(top - stack.stack_pointer);
  return stack;
}

// Writes upwards from one address into the image.
class Cursor {
 public:
  Cursor(InitialStack& stack, GuestVirt at) : stack_(stack), at_(at) {}

  GuestVirt at() const { return at_; }
  void Bytes(const void* from, std::size_t size) {
    std::memcpy(stack_.bytes.data() + (at_ - stack_.stack_pointer), from, size);
    at_ = at_ + size;
  }
  void Word(std::uint64_t value) { Bytes(&value, sizeof(value)); }
  void String(std::string_view text) {
    Bytes(text.data(), text.size());
    Bytes("", 1);
  }

 private:
  InitialStack& stack_;
  GuestVirt at_;
};

// The strings of one list, and the null-terminated table that points to them.
void WriteList(std::span<const std::string> list, Cursor strings, Cursor& pointers) {
  for (const std::string& text : list) {
    pointers.Word(strings.at().value);
    strings.String(text);
  }
  pointers.Word(0);
}

std::uint64_t AuxValue(const AuxEntry& entry, const InitialStack& stack) {
  if (entry.type == AuxType::kPlatform) return stack.platform.value;
  if (entry.type == AuxType::kRandom) return stack.random.value;
  if (entry.type == AuxType::kExecutableName) return stack.executable_name.value;
  return entry.value;
}

void WriteAuxv(std::span<const AuxEntry> entries, InitialStack& stack) {
  Cursor cursor(stack, stack.auxv);
  for (const AuxEntry& entry : entries) {
    cursor.Word(static_cast<std::uint64_t>(entry.type));
    cursor.Word(AuxValue(entry, stack));
  }
  cursor.Word(static_cast<std::uint64_t>(AuxType::kNull));
  cursor.Word(0);
}

}  // namespace

absl::StatusOr<InitialStack> BuildInitialStack(const StackContents& given, GuestVirt top,
                                               std::uint64_t argument_limit) {
  const std::string no_name;
  StackContents contents = given;
  if (contents.arguments.empty()) contents.arguments = std::span(&no_name, 1);
  if (absl::Status status = CheckLimit(contents, argument_limit); !status.ok()) return status;
  absl::StatusOr<InitialStack> placed = PlaceParts(contents, top);
  if (!placed.ok()) return placed.status();
  InitialStack& stack = *placed;

  Cursor pointers(stack, stack.stack_pointer);
  pointers.Word(contents.arguments.size());
  WriteList(contents.arguments, Cursor(stack, stack.arg_start), pointers);
  WriteList(contents.environment, Cursor(stack, stack.env_start), pointers);
  WriteAuxv(contents.auxv, stack);
  Cursor(stack, stack.random).Bytes(contents.random.data(), contents.random.size());
  Cursor(stack, stack.platform).String(kPlatformName);
  Cursor(stack, stack.executable_name).String(contents.executable_name);
  return placed;
}

}  // namespace dunebox::loader
