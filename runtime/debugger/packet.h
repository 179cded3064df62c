// The packets of gdb's remote protocol: how they are framed, and the hexadecimal, escaped and
// numeric forms in them. Pure; the other end may be anybody, so whatever arrives is only bytes.
// A packet longer than kMostPacketBytes is refused, never kept. [gdb, "Remote Protocol"]
//
//   PacketReader reader;
//   reader.Add(bytes);
//   while (auto event = reader.Next()) ...
//   Send(Frame("OK"));   // "$OK#9a"
#ifndef DUNEBOX_RUNTIME_DEBUGGER_PACKET_H_
#define DUNEBOX_RUNTIME_DEBUGGER_PACKET_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace dunebox::debugger {

inline constexpr std::size_t kMostPacketBytes = 0x4000;

struct PacketEvent {
  enum class Kind : std::uint8_t {
    kPacket,     // `body`, its checksum right
    kBroken,     // a packet whose checksum is wrong, or that is too long
    kInterrupt,  // the byte 3 between packets: the user wants the program to stop
    kAck,
    kNack,
  };
  Kind kind;
  std::string body;  // as sent, escapes included
};

class PacketReader {
 public:
  void Add(std::string_view bytes) { waiting_ += bytes; }
  // What comes next of what was added; nothing until more is there. Bytes between packets that mean
  // nothing are dropped.
  std::optional<PacketEvent> Next();

 private:
  std::string waiting_;
};

// With `$`, `#` and the checksum. Binary parts of `body` are escaped already.
std::string Frame(std::string_view body);

// `}` and the next byte with bit 5 changed stand for what a packet cannot have in it.
std::string Escape(std::string_view bytes);
std::string Unescape(std::string_view bytes);

std::string ToHex(std::span<const std::byte> bytes);
std::string ToHex(std::string_view bytes);
// Nothing for an odd number of digits or anything that is none.
std::optional<std::string> FromHex(std::string_view digits);

// Takes a hexadecimal number of at most 16 digits off the front of `text`.
std::optional<std::uint64_t> TakeHex(std::string_view& text);
// Takes `expected` off the front.
bool Take(std::string_view& text, std::string_view expected);

// A thread as packets name it: "1f", "p1e.1f", "-1", "0".
struct ThreadName {
  static constexpr std::int64_t kAll = -1, kAny = 0;
  std::int64_t process = kAny;  // kAny when it was not said
  std::int64_t thread = kAny;
};
std::optional<ThreadName> TakeThread(std::string_view& text);

// One action of vCont for some threads.
struct Resumption {
  enum class Kind : std::uint8_t { kContinue, kStep, kRange };
  Kind kind = Kind::kContinue;
  unsigned signal = 0;                   // as gdb numbers them; 0: none
  std::uint64_t start = 0, end = 0;      // of kRange
  ThreadName threads{.process = ThreadName::kAll, .thread = ThreadName::kAll};
};
// Takes ";c", ";S05:p1.2", ";r1000,1010:-1" and so on off the front.
std::optional<Resumption> TakeResumption(std::string_view& text);

// The part of an object that qXfer asks for, "OFFSET,LENGTH": with "m" or, at its end, "l".
std::string SliceForTransfer(std::string_view object, std::string_view offset_and_length);

}  // namespace dunebox::debugger

#endif  // DUNEBOX_RUNTIME_DEBUGGER_PACKET_H_
