// Reading JSON values into typed ones, with the place of whatever does not fit.
//
// The first thing that is wrong is kept as the error, and everything behind it still gets a value, so
// that a reader is a list of fields and not of returns. A name that nobody asked for becomes a note:
// a form may grow. Refuses numbers that do not fit their type, texts with a NUL (the kernel would
// see another text than we checked) and lists longer than anything a container needs.
//
//   Document document("config.json");
//   Fields process(document, value, "process");
//   process.Need("args", config.args);
//   process.Take("terminal", config.terminal);
//   process.End();
//   document.status()       // "config.json: process.args: a list is expected"
#ifndef DUNEBOX_SANDBOX_OCI_JSON_FIELDS_H_
#define DUNEBOX_SANDBOX_OCI_JSON_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace dunebox::oci {

inline constexpr std::size_t kMostElements = 16384;

// What is known of one text: its first error, and what was left out.
class Document {
 public:
  explicit Document(std::string_view file) : file_(file) {}

  void Fail(std::string_view place, std::string_view reason);
  void Note(std::string_view place, std::string_view what);

  const absl::Status& status() const { return status_; }
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  std::string Message(std::string_view place, std::string_view text) const;

  std::string file_;
  absl::Status status_;
  std::vector<std::string> notes_;
};

void Read(Document& document, const nlohmann::json& value, const std::string& place, bool& out);
void Read(Document& document, const nlohmann::json& value, const std::string& place,
          std::string& out);
void Read(Document& document, const nlohmann::json& value, const std::string& place,
          std::uint16_t& out);
void Read(Document& document, const nlohmann::json& value, const std::string& place,
          std::uint32_t& out);
void Read(Document& document, const nlohmann::json& value, const std::string& place,
          std::uint64_t& out);
void Read(Document& document, const nlohmann::json& value, const std::string& place, int& out);
void Read(Document& document, const nlohmann::json& value, const std::string& place,
          std::int64_t& out);
void Read(Document& document, const nlohmann::json& value, const std::string& place,
          std::map<std::string, std::string>& out);

template <typename T>
void Read(Document& document, const nlohmann::json& value, const std::string& place,
          std::optional<T>& out) {
  Read(document, value, place, out.emplace());
}

template <typename T>
void Read(Document& document, const nlohmann::json& value, const std::string& place,
          std::vector<T>& out) {
  if (!value.is_array()) return document.Fail(place, "a list is expected");
  if (value.size() > kMostElements) return document.Fail(place, "too many elements");
  out.clear();
  for (std::size_t i = 0; i < value.size(); ++i) {
    Read(document, value[i], place + "[" + std::to_string(i) + "]", out.emplace_back());
  }
}

// The names of one object. A name with null is as one that is not there.
class Fields {
 public:
  // Every one of them outlives this.
  Fields(Document& document, const nlohmann::json& object, std::string place);

  // The value of `name`, and the error that it is missing.
  template <typename T>
  void Need(std::string_view name, T& out) {
    if (!Take(name, out)) document_.Fail(PlaceOf(name), "is missing");
  }
  // Is it there?
  template <typename T>
  bool Take(std::string_view name, T& out) {
    const nlohmann::json* const value = Find(name);
    if (value == nullptr) return false;
    Read(document_, *value, PlaceOf(name), out);
    return true;
  }
  // Without it the container would be protected less than its author thinks. Empty texts, lists and
  // objects, zero and false ask for nothing.
  void Refuse(std::string_view name, std::string_view reason);
  // It may be there, and is without effect.
  void Ignore(std::string_view name, std::string_view reason);
  // Notes the names that nobody asked for.
  void End();

  void Fail(std::string_view name, std::string_view reason) {
    document_.Fail(PlaceOf(name), reason);
  }
  std::string PlaceOf(std::string_view name) const;

 private:
  const nlohmann::json* Find(std::string_view name);

  Document& document_;
  const nlohmann::json& object_;
  const std::string place_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_JSON_FIELDS_H_
