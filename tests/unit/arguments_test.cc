#include "hostcalls/dispatch/arguments.h"

#include <gtest/gtest.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "tests/fakes/fake_caller.h"
#include "tests/fakes/guest_pages.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::uint64_t kLimit = hostcalls::Window::WholeProgram().limit;
constexpr std::uint64_t kMost = ~std::uint64_t{0};
constexpr std::uint64_t kGuest = fakes::kTestWindow;

// A call whose first argument is `argument` and whose second and third are lengths.
Row RowOf(Argument argument, Argument second = Size("length"), Argument third = Int("count")) {
  return {.number = 0,
          .name = "test",
          .route = Route::kForwarded,
          .family = Family::kFiles,
          .note = "",
          .arguments = {argument, second, third}};
}

int Check(const Row& row, const ArgumentValues& values) {
  const fakes::FakeCaller caller;
  return CheckArguments(caller, row, values).error();
}

struct Pointer {
  const char* kind;
  Argument argument;
  std::uint64_t length;  // of the second argument
  std::uint64_t extent;  // bytes that are checked
};

// Every kind that points to memory whose extent is known before anything is copied.
const Pointer kPointers[] = {
    {"buffer in", BufferIn("p", LengthIn{1}), 100, 100},
    {"buffer out", BufferOut("p", LengthIn{1}), 100, 100},
    {"buffer in with header", BufferIn("p", LengthIn{1}, HeaderBytes{8}), 100, 108},
    {"buffer out with header", BufferOut("p", LengthIn{1}, HeaderBytes{8}), 100, 108},
    {"struct in", StructIn("p", 24u), 0, 24},
    {"struct out", StructOut("p", 24u), 0, 24},
    {"struct in out", StructInOut("p", 24u), 0, 24},
    {"shaped struct", StructOut("p", Shape::kTimespec), 0, 16},
    {"array in", ArrayIn("p", 12, LengthIn{1}), 10, 120},
    {"array out", ArrayOut("p", 12, LengthIn{1}), 10, 120},
    {"array in out", ArrayInOut("p", 12, LengthIn{1}), 10, 120},
    {"socket address in", SockaddrIn("p", LengthIn{1}), 16, 16},
    {"socket address out", SockaddrOut("p", LengthIn{1}), 0, 128},
    {"message in", MessageIn("p"), 0, 56},
    {"message out", MessageOut("p"), 0, 56},
    {"descriptor set", FdSet("p", LengthIn{1}), 65, 16},
    {"path", Path("p"), 0, 1},
    {"string", String("p"), 0, 1},
    {"string array", StringArray("p"), 0, 1},
};

TEST(CheckArguments, NoPointerMayLeaveTheWindow) {
  for (const Pointer& p : kPointers) {
    SCOPED_TRACE(p.kind);
    const Row row = RowOf(p.argument);
    const std::uint64_t inside[] = {0x1'0000, kGuest, kLimit - p.extent};
    for (const std::uint64_t address : inside) {
      EXPECT_EQ(Check(row, {address, p.length}), 0) << std::hex << address;
    }
    int ours = 0;
    const std::uint64_t outside[] = {1,
                                     0xffff,
                                     kLimit - p.extent + 1,
                                     kLimit,
                                     0x7fff'ffff'f000,
                                     reinterpret_cast<std::uint64_t>(&ours),
                                     0x8000'0000'0000,
                                     0xffff'ff80'0000'0000,
                                     kMost - p.extent,
                                     kMost};
    for (const std::uint64_t address : outside) {
      EXPECT_EQ(Check(row, {address, p.length}), EFAULT) << std::hex << address;
    }
  }
}

TEST(CheckArguments, NullAlwaysPasses) {
  for (const Pointer& p : kPointers) {
    EXPECT_EQ(Check(RowOf(p.argument), {0, p.length}), 0) << p.kind;
    EXPECT_EQ(Check(RowOf(p.argument), {0, kMost}), 0) << p.kind;
  }
}

TEST(CheckArguments, ALengthThatOverflowsIsRefused) {
  const Argument overflowing[] = {BufferIn("p", LengthIn{1}),
                                  BufferIn("p", LengthIn{1}, HeaderBytes{8}),
                                  BufferOut("p", LengthIn{1}, HeaderBytes{8}),
                                  ArrayIn("p", 12, LengthIn{1}),
                                  ArrayOut("p", 8, LengthIn{1}),
                                  ArrayInOut("p", 16, LengthIn{1}),
                                  SockaddrIn("p", LengthIn{1})};
  for (const Argument& argument : overflowing) {
    for (const std::uint64_t length :
         {kMost, kMost - 7, std::uint64_t{1} << 63, (std::uint64_t{1} << 60) + 1, kLimit}) {
      EXPECT_EQ(Check(RowOf(argument), {kGuest, length}), EFAULT)
          << static_cast<int>(argument.kind) << " " << std::hex << length;
    }
  }
}

TEST(CheckArguments, ALengthCountsAtTheWidthOfItsOwnArgument) {
  const std::uint64_t dirty = 0xdead'beef'0000'0010;
  EXPECT_EQ(Check(RowOf(BufferIn("p", LengthIn{1}), Int("n")), {kGuest, dirty}), 0);
  EXPECT_EQ(Check(RowOf(BufferIn("p", LengthIn{1}), Unsigned("n")), {kGuest, dirty}), 0);
  EXPECT_EQ(Check(RowOf(BufferIn("p", LengthIn{1}), Size("n")), {kGuest, dirty}), EFAULT);
  // A negative int is a large unsigned one: it does not fit near the end of the window.
  EXPECT_EQ(Check(RowOf(BufferIn("p", LengthIn{1}), Int("n")), {kLimit - 16, kMost}), EFAULT);
}

TEST(CheckArguments, AnFdSetIsMeasuredInWholeWords) {
  const Row row = RowOf(FdSet("p", LengthIn{1}), Int("n"));
  EXPECT_EQ(Check(row, {kLimit - 8, 64}), 0);
  EXPECT_EQ(Check(row, {kLimit - 8, 65}), EFAULT);
  EXPECT_EQ(Check(row, {kLimit - 7, 1}), EFAULT);
  EXPECT_EQ(Check(row, {kLimit, 0}), 0);
  EXPECT_EQ(Check(row, {kLimit - 8, 0xffff'ffff}), 0);  // -1: the kernel's EINVAL
}

TEST(CheckArguments, RuntimeDescriptorsDoNotExist) {
  for (const Argument& argument : {Fd("fd"), DirFd("fd")}) {
    for (const std::uint64_t fd : {1000u, 1001u, 1023u}) {
      EXPECT_EQ(Check(RowOf(argument), {fd}), EBADF);
      EXPECT_EQ(Check(RowOf(argument), {fd | 0xffff'ffff'0000'0000}), EBADF) << "int argument";
      EXPECT_EQ(Check(RowOf(argument), {fd | 0x1'0000'0000}), EBADF) << "int argument";
    }
    for (const std::uint64_t fd : {std::uint64_t{0}, std::uint64_t{999}, std::uint64_t{1024}, kMost,
                                   std::uint64_t{0xffff'ff9c}}) {
      EXPECT_EQ(Check(RowOf(argument), {fd}), 0);
    }
  }
}

TEST(NeedsCopies, OfPathsAndIovecsAndOfNothingElse) {
  for (const char* name : {"truncate", "readv", "pwritev2", "symlinkat", "setxattr"}) {
    EXPECT_TRUE(NeedsCopies(*FindRow(std::string_view(name)))) << name;
  }
  for (const char* name : {"read", "write", "lseek", "getppid", "fstat", "getsockname"}) {
    EXPECT_FALSE(NeedsCopies(*FindRow(std::string_view(name)))) << name;
  }
}

TEST(MayTouch, OnlyTheBytesThatTheKindsTellOf) {
  constexpr GuestRange kPlace{GuestVirt{0x10000}, GuestVirt{0x20000}};
  const auto touches = [&](std::uint64_t number, ArgumentValues values) {
    return MayTouch(*FindRow(number), values,
                    [&](const GuestRange& range) { return kPlace.Overlaps(range); });
  };
  EXPECT_FALSE(touches(SYS_getppid, {}));
  EXPECT_FALSE(touches(SYS_read, {0, 0x20000, 0x1000}));
  EXPECT_FALSE(touches(SYS_read, {0, 0xf000, 0x1000}));
  EXPECT_TRUE(touches(SYS_read, {0, 0xf000, 0x1001}));
  EXPECT_TRUE(touches(SYS_read, {0, 0x1ffff, 1}));
  EXPECT_TRUE(touches(SYS_read, {0, 8, ~std::uint64_t{0}}));
  // A descriptor that looks like an address; a null pointer.
  EXPECT_FALSE(touches(SYS_close, {0x10000}));
  EXPECT_FALSE(touches(SYS_nanosleep, {0x8000, 0}));
  EXPECT_TRUE(touches(SYS_nanosleep, {0x8000, 0x10000}));
  // What is behind these is not known without a look.
  EXPECT_TRUE(touches(SYS_writev, {0, 0x8000, 1}));
  EXPECT_TRUE(touches(SYS_stat, {0x8000, 0x9000}));
  EXPECT_TRUE(touches(SYS_sendmsg, {0, 0x8000, 0}));
}

TEST(CheckArguments, PlainNumbersMayBeAnything) {
  for (const Argument& argument :
       {Argument{}, Int("n"), Unsigned("n"), Hex("n"), Flags("n", FlagSet::kNone), Pid("n"),
        Size("n"), Offset("n"), Mode("n"), Signal("n"), Address("n")}) {
    for (const std::uint64_t value : {std::uint64_t{0}, kLimit, kMost, std::uint64_t{1000}}) {
      EXPECT_EQ(Check(RowOf(argument), {value}), 0) << static_cast<int>(argument.kind);
    }
  }
}

TEST(CheckArguments, EveryPositionIsChecked) {
  for (std::size_t i = 0; i < kMaxArguments; ++i) {
    Row row = RowOf(Int("n"), Int("n"));
    row.arguments[i] = StructIn("p", 8u);
    ArgumentValues values{};
    values[i] = kLimit;
    EXPECT_EQ(Check(row, values), EFAULT) << i;
  }
}

// No call of the table lets an address of the runtime through to the kernel, whatever the lengths.
TEST(CheckArguments, NoRowOfTheTableTakesARuntimeAddress) {
  const fakes::FakeCaller caller;
  for (const Row& row : AllRows()) {
    if (row.route != Route::kForwarded) continue;
    for (std::size_t i = 0; i < row.arguments.size(); ++i) {
      const ArgumentKind kind = row.arguments[i].kind;
      if (kind < ArgumentKind::kPath) continue;  // kinds that are numbers come first
      if (kind == ArgumentKind::kIovecIn || kind == ArgumentKind::kIovecOut) continue;
      ArgumentValues values{};
      values[i] = 0x7000'0000'0000;
      if (row.arguments[i].length_argument >= 0) {
        values[static_cast<std::size_t>(row.arguments[i].length_argument)] = 1;
      }
      EXPECT_EQ(CheckArguments(caller, row, values).error(), EFAULT)
          << row.name << " argument " << i;
    }
  }
}

// ---- iovec --------------------------------------------------------------------------------------

class IovecTest : public ::testing::Test {
 protected:
  void Put(std::size_t index, std::uint64_t base, std::uint64_t length) {
    pages_.At<std::array<std::uint64_t, 2>>(index * sizeof(iovec)) = {base, length};
  }
  int Copy(std::uint64_t count, std::uint64_t address = kGuest) {
    const auto result = CopyInIovec(memory_, address, count);
    return result.ok() ? 0 : result.error().value;
  }

  const GuestMemory memory_{Window::WholeProgram()};
  fakes::GuestPages pages_{5};
};

TEST_F(IovecTest, IsCopiedOnceAndNotLookedAtAgain) {
  Put(0, kGuest + 100, 8);
  Put(1, kGuest + 200, 16);
  auto result = CopyInIovec(memory_, kGuest, 2);
  ASSERT_TRUE(result.ok());
  Put(1, 0x7000'0000'0000, 16);  // what a sibling thread would do
  const std::vector<iovec> elements = *std::move(result);
  ASSERT_EQ(elements.size(), 2u);
  EXPECT_EQ(reinterpret_cast<std::uint64_t>(elements[1].iov_base), kGuest + 200);
  EXPECT_EQ(elements[1].iov_len, 16u);
}

TEST_F(IovecTest, TheCountHasLinuxsLimit) {
  for (std::size_t i = 0; i < 1024; ++i) Put(i, kGuest, 1);
  EXPECT_EQ(Copy(1024), 0);
  EXPECT_EQ(Copy(1025), EINVAL);
  EXPECT_EQ(Copy(kMost), EINVAL);
  EXPECT_EQ(Copy(std::uint64_t{1} << 60), EINVAL);  // would overflow in bytes
  EXPECT_EQ(Copy(0), 0);
  EXPECT_EQ(Copy(0, 0), 0);
}

TEST_F(IovecTest, TheArrayItselfHasToBeInsideTheWindow) {
  EXPECT_EQ(Copy(1, 0), EFAULT);
  EXPECT_EQ(Copy(1, kLimit), EFAULT);
  EXPECT_EQ(Copy(1, kLimit - 8), EFAULT);
  EXPECT_EQ(Copy(1, 0x7000'0000'0000), EFAULT);
  EXPECT_EQ(Copy(2, kMost - 15), EFAULT);
}

TEST_F(IovecTest, EveryElementIsChecked) {
  struct Case {
    std::uint64_t base, length;
    int error;
  };
  const Case cases[] = {
      {kGuest, 0, 0},
      {0, 0, 0},
      {kLimit - 1, 1, 0},
      {kLimit - 1, 2, EFAULT},
      {0x7000'0000'0000, 1, EFAULT},
      {0, 1, EFAULT},
      {kMost, 1, EFAULT},
      {kGuest, std::uint64_t{1} << 62, EFAULT},
      {kGuest, std::uint64_t{1} << 63, EINVAL},  // negative as ssize_t
      {kGuest, kMost, EINVAL},
      {0x7000'0000'0000, kMost, EINVAL},
  };
  for (const Case& c : cases) {
    for (const std::size_t position : {0, 1, 2}) {
      for (std::size_t i = 0; i < 3; ++i) Put(i, kGuest, 1);
      Put(position, c.base, c.length);
      EXPECT_EQ(Copy(3), c.error) << std::hex << c.base << " " << c.length << " " << position;
    }
  }
}

// ---- what the kernel writes ---------------------------------------------------------------------

class WrittenTest : public IovecTest {
 protected:
  using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;  // start and size
  Ranges Written(const char* call, const ArgumentValues& values) const {
    Ranges ranges;
    ForEachWritten(*FindRow(call), values, memory_,
                   [&](const GuestRange& range) { ranges.emplace_back(range.start.value, range.size()); });
    return ranges;
  }
};

TEST_F(WrittenTest, BuffersAndStructures) {
  EXPECT_EQ(Written("read", {0, kGuest, 100}), (Ranges{{kGuest, 100}}));
  EXPECT_EQ(Written("wait4", {0, 0, 0, kGuest}), (Ranges{{kGuest, 144}}));
  EXPECT_EQ(Written("epoll_wait", {0, kGuest, 3}), (Ranges{{kGuest, 36}}));
  EXPECT_EQ(Written("recvfrom", {0, kGuest, 8, 0, kGuest + 64, kGuest + 32}),
            (Ranges{{kGuest, 8}, {kGuest + 64, 128}, {kGuest + 32, 4}}));
}

TEST_F(WrittenTest, WhatIsReadIsNot) {
  EXPECT_EQ(Written("write", {0, kGuest, 100}), Ranges{});
  EXPECT_EQ(Written("writev", {0, kGuest, 1}), Ranges{});
  EXPECT_EQ(Written("open", {kGuest}), Ranges{});
}

TEST_F(WrittenTest, VectorsAndMessagesLeadFurther) {
  Put(0, kGuest + 100, 8);
  Put(1, kGuest + 200, 16);
  EXPECT_EQ(Written("readv", {0, kGuest, 2}), (Ranges{{kGuest + 100, 8}, {kGuest + 200, 16}}));
  EXPECT_EQ(Written("readv", {0, kLimit, 2}), Ranges{});
  auto& message = pages_.At<msghdr>(512);
  message = {};
  message.msg_iov = reinterpret_cast<iovec*>(kGuest);
  message.msg_iovlen = 1;
  message.msg_control = reinterpret_cast<void*>(kGuest + 300);
  message.msg_controllen = 40;
  EXPECT_EQ(Written("recvmsg", {0, kGuest + 512}),
            (Ranges{{kGuest + 512, sizeof(msghdr)}, {0, 0}, {kGuest + 300, 40}, {kGuest + 100, 8}}));
}

// ---- what the kernel gets -----------------------------------------------------------------------

class PrepareTest : public IovecTest {
 protected:
  int Prepare(const Row& row, const ArgumentValues& values) {
    return prepared_.Prepare(row, values).error();
  }
  // Of the guest's, `at` bytes into its pages.
  void PutPath(std::uint64_t at, const std::string& path) {
    std::memcpy(reinterpret_cast<char*>(pages_.host()) + at, path.c_str(), path.size() + 1);
  }
  fakes::FakeCaller caller_;
  PreparedArguments prepared_{caller_};
};

TEST_F(PrepareTest, APathIsOurCopy) {
  PutPath(0, "/etc/passwd");
  ASSERT_EQ(Prepare(RowOf(Path("path")), {kGuest}), 0);
  const char* copy = reinterpret_cast<const char*>(prepared_.values()[0]);
  EXPECT_NE(prepared_.values()[0], kGuest);
  PutPath(0, "/tmp/other");
  EXPECT_STREQ(copy, "/etc/passwd");
}

TEST_F(PrepareTest, TwoPathsAreTwoCopies) {
  PutPath(0, "a");
  PutPath(64, "b");
  ASSERT_EQ(Prepare(RowOf(Path("from"), Path("to")), {kGuest, kGuest + 64}), 0);
  EXPECT_STREQ(reinterpret_cast<const char*>(prepared_.values()[0]), "a");
  EXPECT_STREQ(reinterpret_cast<const char*>(prepared_.values()[1]), "b");
}

TEST_F(PrepareTest, PathsHaveLinuxsLimitAndNullStaysNull) {
  std::memset(pages_.host(), 'x', 2 * kPageSize);
  pages_.At<char>(PATH_MAX - 1) = '\0';
  EXPECT_EQ(Prepare(RowOf(Path("path")), {kGuest}), 0);
  pages_.At<char>(PATH_MAX - 1) = 'x';
  EXPECT_EQ(Prepare(RowOf(Path("path")), {kGuest}), ENAMETOOLONG);
  EXPECT_EQ(Prepare(RowOf(Path("path")), {0}), 0);
  EXPECT_EQ(prepared_.values()[0], 0u);
}

TEST_F(PrepareTest, AnIovecIsOurCopyAndItsBuffersAreTheGuests) {
  Put(0, kGuest + 100, 8);
  for (const Argument& argument : {IovecIn("v", LengthIn{1}), IovecOut("v", LengthIn{1})}) {
    ASSERT_EQ(Prepare(RowOf(argument, Int("n")), {kGuest, 0xffff'0000'0000'0001}), 0);
    EXPECT_NE(prepared_.values()[0], kGuest);
    const auto* copy = reinterpret_cast<const iovec*>(prepared_.values()[0]);
    EXPECT_EQ(reinterpret_cast<std::uint64_t>(copy->iov_base), kGuest + 100);
    EXPECT_EQ(Prepare(RowOf(argument), {0x7000'0000'0000, 1}), EFAULT);
    EXPECT_EQ(Prepare(RowOf(argument), {kGuest, 2000}), EINVAL);
  }
}

TEST_F(PrepareTest, BuffersStayWhereTheyAre) {
  const ArgumentValues values = {kGuest, 100, 7};
  ASSERT_EQ(Prepare(RowOf(BufferOut("p", LengthIn{1})), values), 0);
  EXPECT_EQ(prepared_.values(), values);
}

}  // namespace
}  // namespace dunebox::hostcalls
