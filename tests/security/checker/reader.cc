#include "tests/security/checker/reader.h"

#include <cstring>

namespace dunebox::checker {
namespace {

struct IsolationName {
  Isolation isolation;
  std::string_view name;
};
constexpr IsolationName kNames[] = {{Isolation::kNone, "none"},
                                    {Isolation::kPku, "pku"},
                                    {Isolation::kSeg, "seg"},
                                    {Isolation::kMask, "mask"},
                                    {Isolation::kMaskWrites, "mask-writes"}};

bool IsSound(const record::Header& header) {
  return header.magic == record::kMagic && header.size <= record::kLargest &&
         header.kind <= record::Kind::kExitStub && !NameOf(header.isolation).empty() &&
         header.exits <= record::kLargest / sizeof(record::Exit) &&
         header.code_size <= record::kLargest &&
         sizeof(header) + header.exits * sizeof(record::Exit) + header.code_size <= header.size;
}

}  // namespace

std::string_view NameOf(Isolation isolation) {
  for (const IsolationName& row : kNames) {
    if (row.isolation == isolation) return row.name;
  }
  return {};
}

std::optional<Code> Reader::Next() {
  const std::span<const std::uint8_t> rest = bytes_.subspan(at_);
  if (rest.empty() || !error_.empty()) return std::nullopt;
  Code code;
  if (rest.size() < sizeof(code.header)) {
    error_ = "the last record is cut off";
    return std::nullopt;
  }
  std::memcpy(&code.header, rest.data(), sizeof(code.header));
  if (!IsSound(code.header)) {
    error_ = "no record at offset " + std::to_string(at_);
    return std::nullopt;
  }
  if (rest.size() < code.header.size) {
    error_ = "the last record is cut off";
    return std::nullopt;
  }
  const std::uint8_t* from = rest.data() + sizeof(code.header);
  code.exits.resize(code.header.exits);
  if (!code.exits.empty()) {
    std::memcpy(code.exits.data(), from, code.exits.size() * sizeof(record::Exit));
  }
  from += code.exits.size() * sizeof(record::Exit);
  code.bytes.assign(from, from + code.header.code_size);
  at_ += code.header.size;
  return code;
}

}  // namespace dunebox::checker
