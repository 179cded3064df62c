#include "sandbox/oci/json_fields.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "sandbox/policy/quoted.h"

namespace dunebox::oci {
namespace {

using nlohmann::json;

template <typename T>
void ReadUnsigned(Document& document, const json& value, const std::string& place, T& out) {
  if (!value.is_number_unsigned()) {
    return document.Fail(place, "a whole number, not negative, is expected");
  }
  const std::uint64_t number = value.get<std::uint64_t>();
  constexpr std::uint64_t kMost = std::numeric_limits<T>::max();
  if (number > kMost) return document.Fail(place, fmt::format("greater than {}", kMost));
  out = static_cast<T>(number);
}

template <typename T>
void ReadSigned(Document& document, const json& value, const std::string& place, T& out) {
  if (!value.is_number_integer()) return document.Fail(place, "a whole number is expected");
  using Limits = std::numeric_limits<T>;
  const bool too_great =
      value.is_number_unsigned() &&
      value.get<std::uint64_t>() > static_cast<std::uint64_t>(Limits::max());
  const bool too_small = !value.is_number_unsigned() && value.get<std::int64_t>() < Limits::min();
  if (too_great || too_small) {
    return document.Fail(place, fmt::format("not from {} to {}", Limits::min(), Limits::max()));
  }
  out = static_cast<T>(value.get<std::int64_t>());
}

// Does the value ask for something?
bool IsSet(const json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>() != 0;
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return !value.empty();
}

}  // namespace

std::string Document::Message(std::string_view place, std::string_view text) const {
  return place.empty() ? fmt::format("{}: {}", file_, text)
                       : fmt::format("{}: {}: {}", file_, policy::Escaped(place), text);
}

void Document::Fail(std::string_view place, std::string_view reason) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(Message(place, reason));
}

void Document::Note(std::string_view place, std::string_view what) {
  notes_.push_back(Message(place, what));
}

void Read(Document& document, const json& value, const std::string& place, bool& out) {
  if (!value.is_boolean()) return document.Fail(place, "true or false is expected");
  out = value.get<bool>();
}

void Read(Document& document, const json& value, const std::string& place, std::string& out) {
  if (!value.is_string()) return document.Fail(place, "a text is expected");
  out = value.get<std::string>();
  if (out.find('\0') != std::string::npos) document.Fail(place, "a text without NUL is expected");
}

void Read(Document& document, const json& value, const std::string& place, std::uint16_t& out) {
  ReadUnsigned(document, value, place, out);
}
void Read(Document& document, const json& value, const std::string& place, std::uint32_t& out) {
  ReadUnsigned(document, value, place, out);
}
void Read(Document& document, const json& value, const std::string& place, std::uint64_t& out) {
  ReadUnsigned(document, value, place, out);
}
void Read(Document& document, const json& value, const std::string& place, int& out) {
  ReadSigned(document, value, place, out);
}
void Read(Document& document, const json& value, const std::string& place, std::int64_t& out) {
  ReadSigned(document, value, place, out);
}

void Read(Document& document, const json& value, const std::string& place,
          std::map<std::string, std::string>& out) {
  if (!value.is_object()) return document.Fail(place, "an object is expected");
  if (value.size() > kMostElements) return document.Fail(place, "too many elements");
  out.clear();
  for (const auto& [name, text] : value.items()) {
    Read(document, text, fmt::format("{}.{}", place, name), out[name]);
  }
}

Fields::Fields(Document& document, const json& object, std::string place)
    : document_(document), object_(object), place_(std::move(place)) {
  if (!object_.is_object()) document_.Fail(place_, "an object is expected");
}

std::string Fields::PlaceOf(std::string_view name) const {
  return place_.empty() ? std::string(name) : fmt::format("{}.{}", place_, name);
}

const json* Fields::Find(std::string_view name) {
  if (!object_.is_object()) return nullptr;
  asked_.emplace(name);
  const auto found = object_.find(std::string(name));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void Fields::Refuse(std::string_view name, std::string_view reason) {
  const json* const value = Find(name);
  if (value != nullptr && IsSet(*value)) Fail(name, reason);
}

void Fields::Ignore(std::string_view name, std::string_view reason) {
  const json* const value = Find(name);
  if (value != nullptr && IsSet(*value)) {
    document_.Note(PlaceOf(name), fmt::format("without effect: {}", reason));
  }
}

void Fields::End() {
  if (!object_.is_object()) return;
  for (const auto& [name, value] : object_.items()) {
    if (!asked_.contains(name)) document_.Note(PlaceOf(name), "unknown, and without effect");
  }
}

}  // namespace dunebox::oci
