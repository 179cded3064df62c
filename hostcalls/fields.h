// Values as bytes and back: what one runtime hands to the next.
//
// Both directions have the same members, so that one list of fields, a template over either, is
// written and read. The bytes stay on one machine: numbers are as memory has them. A reader that
// finds too few bytes, or a bool that is neither 0 nor 1, reads nothing any more and is not Done;
// what enumerations may hold is for the caller to check.
//
//   template <typename Fields, typename State>
//   void VisitFields(Fields& fields, State& state) { fields.Field(state.name); ... }
//   FieldReader reader(bytes);
//   VisitFields(reader, state);
//   if (!reader.Done()) ...
#ifndef DUNEBOX_HOSTCALLS_FIELDS_H_
#define DUNEBOX_HOSTCALLS_FIELDS_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace dunebox::hostcalls {

class FieldWriter {
 public:
  template <typename T>
  void Field(const T& value) {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Field(const std::string& text) {
    Field(std::uint64_t{text.size()});
    bytes_ += text;
  }
  void Field(const std::vector<std::string>& list) {
    List(list, [this](const std::string& text) { Field(text); });
  }
  template <typename T, typename Visit>
  void List(const std::vector<T>& list, Visit visit) {
    Field(std::uint64_t{list.size()});
    for (const T& element : list) visit(element);
  }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : bytes_(bytes) {}
  template <typename T>
  void Field(T& value) {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>);
    if (bytes_.size() < sizeof(value)) return Fail();
    std::memcpy(&value, bytes_.data(), sizeof(value));
    bytes_.remove_prefix(sizeof(value));
  }
  void Field(bool& value) {
    std::uint8_t byte = 0;
    Field(byte);
    if (byte > 1) return Fail();
    value = byte != 0;
  }
  void Field(std::string& text) {
    std::uint64_t size = 0;
    Field(size);
    if (bytes_.size() < size) return Fail();
    text.assign(bytes_.substr(0, size));
    bytes_.remove_prefix(size);
  }
  void Field(std::vector<std::string>& list) {
    List(list, [this](std::string& text) { Field(text); });
  }
  template <typename T, typename Visit>
  void List(std::vector<T>& list, Visit visit) {
    std::uint64_t count = 0;
    Field(count);
    // No element takes less than a byte: a larger count is none.
    if (count > bytes_.size()) return Fail();
    for (std::uint64_t i = 0; i < count && ok_; ++i) visit(list.emplace_back());
  }
  // Was everything there, and nothing more?
  bool Done() const { return ok_ && bytes_.empty(); }

 private:
  void Fail() {
    ok_ = false;
    bytes_ = {};
  }
  std::string_view bytes_;
  bool ok_ = true;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_FIELDS_H_
