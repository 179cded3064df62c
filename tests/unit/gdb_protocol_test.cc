// The packets of gdb's remote protocol, and registers as gdb has them.
#include <signal.h>

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/debugger/packet.h"
#include "runtime/debugger/register_file.h"
#include "runtime/debugger/signal_numbers.h"

namespace dunebox::debugger {
namespace {

using Kind = PacketEvent::Kind;

std::optional<PacketEvent> Only(std::string_view bytes) {
  PacketReader reader;
  reader.Add(bytes);
  return reader.Next();
}

TEST(PacketReader, TakesWhatFrameMakes) {
  EXPECT_EQ(Frame("OK"), "$OK#9a");
  const auto event = Only(Frame("m400000,10"));
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, Kind::kPacket);
  EXPECT_EQ(event->body, "m400000,10");
}

TEST(PacketReader, WaitsForTheRestOfAPacket) {
  PacketReader reader;
  const std::string packet = Frame("qSupported");
  for (const char byte : packet.substr(0, packet.size() - 1)) {
    reader.Add(std::string_view(&byte, 1));
    EXPECT_FALSE(reader.Next());
  }
  reader.Add(packet.substr(packet.size() - 1));
  EXPECT_TRUE(reader.Next());
  EXPECT_FALSE(reader.Next());
}

TEST(PacketReader, KnowsWhatIsBetweenPackets) {
  PacketReader reader;
  reader.Add("+x-\x03" + Frame("g"));
  EXPECT_EQ(reader.Next()->kind, Kind::kAck);
  EXPECT_EQ(reader.Next()->kind, Kind::kNack);
  EXPECT_EQ(reader.Next()->kind, Kind::kInterrupt);
  EXPECT_EQ(reader.Next()->body, "g");
}

TEST(PacketReader, RefusesABadChecksumAndGoesOn) {
  PacketReader reader;
  reader.Add("$OK#00$OK#zz" + Frame("OK"));
  EXPECT_EQ(reader.Next()->kind, Kind::kBroken);
  EXPECT_EQ(reader.Next()->kind, Kind::kBroken);
  EXPECT_EQ(reader.Next()->kind, Kind::kPacket);
}

TEST(PacketReader, KeepsNoPacketThatIsTooLong) {
  PacketReader reader;
  reader.Add("$" + std::string(2 * kMostPacketBytes, 'a'));
  EXPECT_EQ(reader.Next()->kind, Kind::kBroken);
  reader.Add(Frame("g"));
  EXPECT_EQ(reader.Next()->body, "g");
}

TEST(Packet, EscapesWhatAPacketCannotHave) {
  EXPECT_EQ(Escape("a#$}*"), std::string("a}\x03}\x04}]}\n"));
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(Unescape(Escape(all)), all);
  EXPECT_EQ(Unescape("ab}"), "ab");
}

TEST(Packet, Hexadecimal) {
  EXPECT_EQ(ToHex(std::string_view("\x00\xff\x1a", 3)), "00ff1a");
  EXPECT_EQ(FromHex("00fF1a"), std::string("\x00\xff\x1a", 3));
  EXPECT_FALSE(FromHex("0"));
  EXPECT_FALSE(FromHex("0g"));
  std::string_view text = "ffffffffffffffff,";
  EXPECT_EQ(TakeHex(text), ~std::uint64_t{0});
  EXPECT_EQ(text, ",");
  text = "10000000000000000";
  EXPECT_FALSE(TakeHex(text));
  text = "";
  EXPECT_FALSE(TakeHex(text));
}

TEST(Packet, Threads) {
  std::string_view text = "p1e.1f;";
  EXPECT_EQ(TakeThread(text)->thread, 0x1f);
  EXPECT_EQ(text, ";");
  text = "-1";
  EXPECT_EQ(TakeThread(text)->thread, ThreadName::kAll);
  text = "p2";
  EXPECT_EQ(TakeThread(text)->thread, ThreadName::kAll);
  for (std::string_view bad : {"", "p", "p1.", "x", "fffffffff"}) EXPECT_FALSE(TakeThread(bad));
}

TEST(Packet, Resumptions) {
  std::string_view text = ";s:p1.2;C0b:3;r10,20:p1.-1;c";
  const auto step = TakeResumption(text);
  ASSERT_TRUE(step);
  EXPECT_EQ(step->kind, Resumption::Kind::kStep);
  EXPECT_EQ(step->threads.thread, 2);
  const auto signal = TakeResumption(text);
  EXPECT_EQ(signal->signal, 11u);
  EXPECT_EQ(signal->threads.thread, 3);
  const auto range = TakeResumption(text);
  EXPECT_EQ(range->start, 0x10u);
  EXPECT_EQ(range->end, 0x20u);
  const auto rest = TakeResumption(text);
  EXPECT_EQ(rest->kind, Resumption::Kind::kContinue);
  EXPECT_EQ(rest->threads.thread, ThreadName::kAll);
  EXPECT_TRUE(text.empty());
  for (std::string_view bad : {"", ";", "c", ";x", ";C", ";C100", ";r1", ";r1,", ";c:", ";cc"}) {
    EXPECT_FALSE(TakeResumption(bad)) << bad;
  }
}

TEST(Packet, Transfers) {
  EXPECT_EQ(SliceForTransfer("abcdef", "0,3"), "mabc");
  EXPECT_EQ(SliceForTransfer("abcdef", "3,100"), "ldef");
  EXPECT_EQ(SliceForTransfer("abcdef", "6,1"), "l");
  EXPECT_EQ(SliceForTransfer("abcdef", "ffffffffffffffff,ffffffffffffffff"), "l");
  for (std::string_view bad : {"", "1", "1,", ",1", "1,2x"}) {
    EXPECT_EQ(SliceForTransfer("abcdef", bad), "E00");
  }
  EXPECT_LE(SliceForTransfer(std::string(1 << 20, '#'), "0,fffff").size(), kMostPacketBytes);
}

TEST(SignalNumbers, ThereAndBack) {
  EXPECT_EQ(ToGdbSignal(SIGSEGV), 11u);
  EXPECT_EQ(ToGdbSignal(SIGUSR1), 30u);
  EXPECT_EQ(ToGdbSignal(34), 46u);
  EXPECT_EQ(ToGdbSignal(SIGSTKFLT), 143u);
  for (int signal = 1; signal <= 64; ++signal) {
    if (signal == SIGSTKFLT) continue;
    EXPECT_EQ(FromGdbSignal(ToGdbSignal(signal)), signal);
  }
  EXPECT_EQ(FromGdbSignal(0), 0);
  EXPECT_EQ(FromGdbSignal(143), 0);
}

RegisterFile Sample(std::size_t size) {
  RegisterFile file;
  file.extended.resize(size);
  for (std::size_t i = 0; i < size; ++i) file.extended[i] = static_cast<std::byte>(i * 7 + 1);
  file.general.rip = 0x401000;
  file.general.r15 = 15;
  file.general.gs_base = 0x1234;
  return file;
}

TEST(RegisterFile, HasTheWidthsOfItsDescription) {
  for (const std::size_t size : {576u, 832u, 2696u}) {
    const RegisterFile file = Sample(size);
    const bool has_avx = size >= 832;
    std::size_t bytes = 0, count = 0;
    const std::string xml = TargetDescription(has_avx);
    constexpr std::string_view kBits = "bitsize=\"";
    for (std::size_t at = xml.find(kBits); at != xml.npos; at = xml.find(kBits, at + 1)) {
      const std::size_t width = std::stoul(xml.substr(at + kBits.size())) / 8;
      EXPECT_EQ(file.Get(count).size(), width) << count;
      bytes += width;
      ++count;
    }
    EXPECT_EQ(count, file.count());
    EXPECT_EQ(file.GetAll().size(), bytes);
  }
}

TEST(RegisterFile, TakesWhatItGave) {
  RegisterFile file = Sample(832);
  const RegisterFile before = file;
  EXPECT_TRUE(file.SetAll(before.GetAll()));
  EXPECT_EQ(file.extended, before.extended);
  std::string changed = before.Get(41);  // xmm1
  changed[15] = '!';
  ASSERT_TRUE(file.Set(41, changed));
  EXPECT_EQ(file.Get(41), changed);
  EXPECT_EQ(file.extended[160 + 31], std::byte{'!'});
  changed = file.Get(kRip);
  changed[0] = 1;
  ASSERT_TRUE(file.Set(kRip, changed));
  EXPECT_EQ(file.general.rip, 0x401001u);
}

TEST(RegisterFile, RefusesWhatIsNotARegister) {
  RegisterFile file = Sample(576);
  EXPECT_EQ(file.Get(kRegistersWithoutAvx), "");
  EXPECT_FALSE(file.Set(kRegistersWithoutAvx, std::string(16, 'a')));
  EXPECT_FALSE(file.Set(kRip, "short"));
  EXPECT_FALSE(file.Set(18, std::string(4, 'a')));  // cs
  EXPECT_FALSE(file.SetAll(file.GetAll() + "x"));
  EXPECT_FALSE(file.SetAll(file.GetAll().substr(1)));
  EXPECT_EQ(RegisterFile{}.Get(kRip), "");
}

TEST(RegisterFile, TagWordSaysWhatIsEmpty) {
  RegisterFile file;
  file.extended.resize(576);
  constexpr std::size_t kTagRegister = 34;
  EXPECT_EQ(file.Get(kTagRegister), std::string("\xff\xff\0\0", 4));
  file.extended[4] = std::byte{1};  // R0, which is ST0: +0.0
  EXPECT_EQ(file.Get(kTagRegister), std::string("\xfd\xff\0\0", 4));
  const std::uint64_t one = std::uint64_t{1} << 63;
  std::memcpy(file.extended.data() + 32, &one, sizeof(one));
  file.extended[32 + 8] = std::byte{0xff};
  file.extended[32 + 9] = std::byte{0x3f};
  EXPECT_EQ(file.Get(kTagRegister), std::string("\xfc\xff\0\0", 4));
}

}  // namespace
}  // namespace dunebox::debugger
