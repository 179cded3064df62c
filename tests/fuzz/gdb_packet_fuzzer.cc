// Feeds arbitrary bytes to the parser of gdb's packets, as whoever reaches the socket can: what it
// takes stays inside what was sent, and what it makes is a packet.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/debugger/packet.h"
#include "runtime/debugger/register_file.h"

namespace dunebox::debugger {
namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "gdb packet violates: %s\n", what);
  std::abort();
}

void CheckBody(const std::string& body) {
  Require(body.size() <= kMostPacketBytes, "no packet is too long");
  const std::string plain = Unescape(body);
  Require(plain.size() <= body.size(), "unescaping does not add");
  Require(Unescape(Escape(plain)) == plain, "escaping can be undone");
  if (const auto bytes = FromHex(body)) Require(FromHex(ToHex(*bytes)) == bytes, "hexadecimal");
  std::string_view text = body;
  while (const auto resumption = TakeResumption(text)) {
    Require(resumption->signal <= 0xff, "a signal is a byte");
  }
  text = body;
  if (const auto name = TakeThread(text)) Require(name->thread >= -1, "a thread");
  const std::string slice = SliceForTransfer("an object with # in it", body);
  Require(slice.front() == 'm' || slice.front() == 'l' || slice == "E00", "a transfer");
  RegisterFile file;
  file.extended.resize(body.size() % 2 == 0 ? 576 : 832);
  (void)file.SetAll(plain);
  (void)file.Set(body.empty() ? 0 : static_cast<unsigned char>(body[0]), plain);
}

}  // namespace
}  // namespace dunebox::debugger

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using dunebox::debugger::PacketEvent;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  dunebox::debugger::PacketReader reader;
  for (std::size_t at = 0; at < size; at += 7) {
    reader.Add(bytes.substr(at, 7));
    while (const auto event = reader.Next()) {
      if (event->kind == PacketEvent::Kind::kPacket) dunebox::debugger::CheckBody(event->body);
    }
  }
  // The mutations rarely have the right checksum.
  dunebox::debugger::CheckBody(
      std::string(bytes.substr(0, std::min(size, dunebox::debugger::kMostPacketBytes))));
  return 0;
}
