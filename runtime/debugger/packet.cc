#include "runtime/debugger/packet.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace dunebox::debugger {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";
constexpr std::string_view kSpecial = "#$}*";
constexpr char kEscapeBit = 0x20;
constexpr char kInterruptByte = 3;
constexpr std::size_t kChecksumBytes = 3;  // "#xx"

std::optional<unsigned> DigitOf(char digit) {
  if (digit >= '0' && digit <= '9') return static_cast<unsigned>(digit - '0');
  if (digit >= 'a' && digit <= 'f') return static_cast<unsigned>(digit - 'a') + 10;
  if (digit >= 'A' && digit <= 'F') return static_cast<unsigned>(digit - 'A') + 10;
  return std::nullopt;
}

std::uint8_t SumOf(std::string_view body) {
  std::uint8_t sum = 0;
  for (const char byte : body) sum = static_cast<std::uint8_t>(sum + static_cast<std::uint8_t>(byte));
  return sum;
}

}  // namespace

std::optional<PacketEvent> PacketReader::Next() {
  using Kind = PacketEvent::Kind;
  while (!waiting_.empty()) {
    const char first = waiting_.front();
    if (first == '$') break;
    waiting_.erase(0, 1);
    if (first == kInterruptByte) return PacketEvent{Kind::kInterrupt, {}};
    if (first == '+') return PacketEvent{Kind::kAck, {}};
    if (first == '-') return PacketEvent{Kind::kNack, {}};
  }
  const std::size_t end = waiting_.find('#');
  if (end == std::string::npos || end + kChecksumBytes > waiting_.size()) {
    if (waiting_.size() <= kMostPacketBytes + kChecksumBytes) return std::nullopt;
    waiting_.clear();
    return PacketEvent{Kind::kBroken, {}};
  }
  PacketEvent event{Kind::kPacket, waiting_.substr(1, end - 1)};
  const std::optional<std::string> sum = FromHex(std::string_view(waiting_).substr(end + 1, 2));
  waiting_.erase(0, end + kChecksumBytes);
  if (!sum || static_cast<std::uint8_t>(sum->front()) != SumOf(event.body) ||
      event.body.size() > kMostPacketBytes) {
    return PacketEvent{Kind::kBroken, {}};
  }
  return event;
}

std::string Frame(std::string_view body) {
  const std::uint8_t sum = SumOf(body);
  std::string packet = "$";
  packet.append(body);
  packet += '#';
  packet += kDigits[sum >> 4];
  packet += kDigits[sum & 15];
  return packet;
}

std::string Escape(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    if (kSpecial.find(byte) == std::string_view::npos) {
      text += byte;
    } else {
      text += '}';
      text += static_cast<char>(byte ^ kEscapeBit);
    }
  }
  return text;
}

std::string Unescape(std::string_view bytes) {
  std::string plain;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != '}') {
      plain += bytes[i];
    } else if (++i < bytes.size()) {
      plain += static_cast<char>(bytes[i] ^ kEscapeBit);
    }
  }
  return plain;
}

std::string ToHex(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    text += kDigits[static_cast<std::uint8_t>(byte) >> 4];
    text += kDigits[static_cast<std::uint8_t>(byte) & 15];
  }
  return text;
}

std::string ToHex(std::span<const std::byte> bytes) {
  return ToHex(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

std::optional<std::string> FromHex(std::string_view digits) {
  if (digits.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(digits.size() / 2);
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    const std::optional<unsigned> high = DigitOf(digits[i]);
    const std::optional<unsigned> low = DigitOf(digits[i + 1]);
    if (!high || !low) return std::nullopt;
    bytes += static_cast<char>(*high * 16 + *low);
  }
  return bytes;
}

std::optional<std::uint64_t> TakeHex(std::string_view& text) {
  constexpr std::size_t kMostDigits = 16;
  std::uint64_t value = 0;
  std::size_t count = 0;
  for (; count < text.size(); ++count) {
    const std::optional<unsigned> digit = DigitOf(text[count]);
    if (!digit) break;
    if (count == kMostDigits) return std::nullopt;
    value = value * 16 + *digit;
  }
  if (count == 0) return std::nullopt;
  text.remove_prefix(count);
  return value;
}

bool Take(std::string_view& text, std::string_view expected) {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(expected.size());
  return true;
}

namespace {

std::optional<std::int64_t> TakeId(std::string_view& text) {
  if (Take(text, "-1")) return ThreadName::kAll;
  const std::optional<std::uint64_t> number = TakeHex(text);
  if (!number || *number > INT32_MAX) return std::nullopt;
  return static_cast<std::int64_t>(*number);
}

}  // namespace

std::optional<ThreadName> TakeThread(std::string_view& text) {
  ThreadName name;
  const bool has_process = Take(text, "p");
  std::optional<std::int64_t> id = TakeId(text);
  if (!id) return std::nullopt;
  if (has_process) {
    name.process = *id;
    // "p1e" alone is all threads of the process.
    id = Take(text, ".") ? TakeId(text) : ThreadName::kAll;
    if (!id) return std::nullopt;
  }
  name.thread = *id;
  return name;
}

std::optional<Resumption> TakeResumption(std::string_view& text) {
  if (!Take(text, ";") || text.empty()) return std::nullopt;
  const char kind = text.front();
  text.remove_prefix(1);
  Resumption resumption;
  if (kind == 's' || kind == 'S') resumption.kind = Resumption::Kind::kStep;
  if (kind == 'C' || kind == 'S') {
    const std::optional<std::uint64_t> signal = TakeHex(text);
    if (!signal || *signal > 0xff) return std::nullopt;
    resumption.signal = static_cast<unsigned>(*signal);
  } else if (kind == 'r') {
    resumption.kind = Resumption::Kind::kRange;
    const std::optional<std::uint64_t> start = TakeHex(text);
    if (!start || !Take(text, ",")) return std::nullopt;
    const std::optional<std::uint64_t> end = TakeHex(text);
    if (!end) return std::nullopt;
    resumption.start = *start;
    resumption.end = *end;
  } else if (kind != 'c' && kind != 's') {
    return std::nullopt;
  }
  if (Take(text, ":")) {
    const std::optional<ThreadName> threads = TakeThread(text);
    if (!threads) return std::nullopt;
    resumption.threads = *threads;
  }
  if (!text.empty() && text.front() != ';') return std::nullopt;
  return resumption;
}

std::string SliceForTransfer(std::string_view object, std::string_view offset_and_length) {
  const std::optional<std::uint64_t> offset = TakeHex(offset_and_length);
  if (!offset || !Take(offset_and_length, ",")) return "E00";
  const std::optional<std::uint64_t> length = TakeHex(offset_and_length);
  if (!length || !offset_and_length.empty()) return "E00";
  if (*offset >= object.size()) return "l";
  // Escaped it may be twice as long.
  const std::size_t most = std::min<std::uint64_t>(*length, kMostPacketBytes / 2 - 1);
  const std::string_view part = object.substr(*offset, most);
  return absl::StrCat(*offset + part.size() < object.size() ? "m" : "l", Escape(part));
}

}  // namespace dunebox::debugger
