// Which descriptors ring 0 may post writes to, and what becomes of what it has posted.
#include "runtime/process/posted_writes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "tests/fakes/guest_pages.h"

namespace dunebox::process {
namespace {

using hostcalls::Errno;
using hostcalls::Request;
using hostcalls::SyscallResult;

class PostedWritesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(pipe2(pipe_, O_CLOEXEC), 0);
    file_ = memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ASSERT_GE(file_, 0);
  }
  void TearDown() override {
    for (const int descriptor : {pipe_[0], pipe_[1], file_}) close(descriptor);
  }

  static Request CallOf(std::uint64_t number, int descriptor, std::uint64_t bytes = 0) {
    return {.number = number, .arguments = {static_cast<std::uint64_t>(descriptor), 0, bytes}};
  }
  // As if the program had made a call that succeeded.
  void Call(std::uint64_t number, int descriptor) {
    posted_.AfterCall(CallOf(number, descriptor), SyscallResult(0), space_);
  }
  // A write of the host's that went as it should.
  void WriteOnce(int descriptor) {
    ASSERT_EQ(write(descriptor, "-", 1), 1);
    posted_.AfterCall(CallOf(SYS_write, descriptor, 1), SyscallResult(1), space_);
  }
  bool IsLent(int descriptor, bool is_allowed = true) {
    posted_.Lend(box_, is_allowed);
    return (box_.descriptors >> descriptor & 1) != 0;
  }
  bool IsLearned(int descriptor) {
    WriteOnce(descriptor);
    return IsLent(descriptor);
  }
  // What ring 0 does; false: there is no room for it.
  bool Post(int descriptor, const std::string& bytes) {
    const std::uint64_t padded = (bytes.size() + 7) & ~std::size_t{7};
    if (box_.used + sizeof(abi::PostedRecord) + padded > sizeof(box_.records)) return false;
    const abi::PostedRecord record{static_cast<std::uint32_t>(descriptor),
                                   static_cast<std::uint32_t>(bytes.size())};
    std::memcpy(box_.records + box_.used, &record, sizeof(record));
    std::memcpy(box_.records + box_.used + sizeof(record), bytes.data(), bytes.size());
    box_.used += sizeof(record) + padded;
    return true;
  }
  static std::string Contents(int file) {
    std::string text(8192, 0);
    const ssize_t size = pread(file, text.data(), text.size(), 0);
    text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return text;
  }
  static std::string ReadPipe(int pipe) {
    std::string text(65536, 0);
    fcntl(pipe, F_SETFL, O_NONBLOCK);
    const ssize_t size = read(pipe, text.data(), text.size());
    text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return text;
  }
  // From now on writes to the file fail with EPERM.
  void Seal() { ASSERT_EQ(fcntl(file_, F_ADD_SEALS, F_SEAL_WRITE), 0); }

  hostcalls::GuestMemory memory_{hostcalls::Window::WholeProgram()};
  memory::AddressSpace space_{memory_, fakes::TestLayout()};
  PostedWrites posted_;
  abi::PostedWrites box_{};
  int pipe_[2] = {-1, -1};
  int file_ = -1;
};

TEST_F(PostedWritesTest, ADescriptorIsLentWhenAWriteToItHasSucceeded) {
  EXPECT_FALSE(IsLent(file_));
  posted_.AfterCall(CallOf(SYS_write, file_, 8), SyscallResult(7), space_);
  EXPECT_FALSE(IsLent(file_)) << "written in part";
  posted_.AfterCall(CallOf(SYS_write, file_, 8), SyscallResult(Errno{ENOSPC}), space_);
  EXPECT_FALSE(IsLent(file_));
  EXPECT_TRUE(IsLearned(file_));
  EXPECT_TRUE(IsLearned(pipe_[1]));
  EXPECT_EQ(box_.descriptors, std::uint64_t{1} << file_ | std::uint64_t{1} << pipe_[1]);
  EXPECT_FALSE(IsLent(file_, /*is_allowed=*/false));
  EXPECT_EQ(box_.descriptors, 0u);
}

TEST_F(PostedWritesTest, OnlyWhereAWriteIsCertainToSucceed) {
  const auto refuses = [&](int descriptor, const char* what) {
    ASSERT_GE(descriptor, 0) << what;
    EXPECT_FALSE(IsLearned(descriptor)) << what;
    close(descriptor);
  };
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  refuses(sockets[0], "a socket");
  close(sockets[1]);
  refuses(open("/dev/zero", O_WRONLY | O_CLOEXEC), "another device");
  refuses(open("/proc/self/comm", O_WRONLY | O_CLOEXEC), "a file that means something");
  const auto file_again = [&](int flags) {
    return open(("/proc/self/fd/" + std::to_string(file_)).c_str(), flags | O_CLOEXEC);
  };
  refuses(file_again(O_WRONLY | O_SYNC), "a file to be on the disk at once");
  refuses(file_again(O_WRONLY | O_NONBLOCK), "non-blocking");
  const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  EXPECT_TRUE(IsLearned(null));
  close(null);
  const int appending = file_again(O_WRONLY | O_APPEND);
  EXPECT_TRUE(IsLearned(appending));
  close(appending);
}

TEST_F(PostedWritesTest, NotAFileThatTheProgramSeesInItsMemory) {
  ASSERT_EQ(ftruncate(file_, kPageSize), 0);
  const auto at = space_.Map({.length = kPageSize, .prot = PROT_READ, .flags = MAP_SHARED, .fd = file_});
  ASSERT_TRUE(at.ok());
  EXPECT_FALSE(IsLearned(file_));
  munmap(reinterpret_cast<void*>(at.value()), kPageSize);
}

TEST_F(PostedWritesTest, CallsThatMayChangeDescriptorsTakeThemBack) {
  WriteOnce(file_);
  WriteOnce(pipe_[1]);
  for (const auto harmless : {SYS_read, SYS_lseek, SYS_openat, SYS_futex, SYS_rt_sigaction, SYS_brk}) {
    Call(static_cast<std::uint64_t>(harmless), pipe_[0]);
  }
  EXPECT_TRUE(IsLent(file_));
  Call(SYS_close, file_);
  EXPECT_FALSE(IsLent(file_));
  EXPECT_TRUE(IsLent(pipe_[1]));
  for (const auto changing : {SYS_dup2, SYS_fcntl, SYS_ioctl, SYS_fork, SYS_close_range, SYS_writev, SYS_mmap,
                              SYS_sendmsg, SYS_prlimit64}) {
    WriteOnce(file_);
    EXPECT_TRUE(IsLent(file_));
    Call(static_cast<std::uint64_t>(changing), file_);
    EXPECT_FALSE(IsLent(file_)) << changing;
  }
}

TEST_F(PostedWritesTest, WhatWasPostedIsWrittenInItsOrder) {
  WriteOnce(file_);
  const int again = dup(file_);  // the same file at the same place
  WriteOnce(again);
  WriteOnce(pipe_[1]);
  posted_.Lend(box_, true);
  ASSERT_TRUE(Post(file_, "a") && Post(file_, "bcdefgh") && Post(again, "ijklmnop") &&
              Post(pipe_[1], "q") && Post(file_, "r"));
  EXPECT_TRUE(posted_.CarryOut(box_));
  EXPECT_EQ(box_.used, 0u);
  EXPECT_EQ(Contents(file_), "--abcdefghijklmnopr");
  EXPECT_EQ(ReadPipe(pipe_[0]), "-q");
  EXPECT_TRUE(posted_.CarryOut(box_)) << "nothing";
  EXPECT_EQ(Contents(file_), "--abcdefghijklmnopr");
  close(again);
}

TEST_F(PostedWritesTest, APipeIsLentAsLongAsAllThatFitsInTheBoxFindsRoom) {
  // All pages but two are taken, the last of them in part.
  const int pages = fcntl(pipe_[1], F_GETPIPE_SZ) / static_cast<int>(kPageSize);
  const std::string page(kPageSize, 'x');
  for (int i = 0; i < pages - 2; ++i) ASSERT_EQ(write(pipe_[1], page.data(), page.size()), 4096);
  ASSERT_TRUE(IsLearned(pipe_[1]));
  alarm(20);  // a write that waits has failed
  for (int round = 0; IsLent(pipe_[1]); ++round) {
    ASSERT_LT(round, 3);
    while (Post(pipe_[1], std::string(37, 'y'))) {
    }
    EXPECT_TRUE(posted_.CarryOut(box_));
  }
  alarm(0);
  EXPECT_EQ(ReadPipe(pipe_[0]).size() % 37, ((pages - 2) * 4096 + 1) % 37u);
  WriteOnce(pipe_[1]);
  EXPECT_TRUE(IsLent(pipe_[1])) << "room again";
}

TEST_F(PostedWritesTest, NotAPipeThatNobodyReads) {
  WriteOnce(pipe_[1]);
  WriteOnce(file_);
  close(pipe_[0]);
  pipe_[0] = -1;
  EXPECT_FALSE(IsLent(pipe_[1]));
  EXPECT_TRUE(IsLent(file_));
}

TEST_F(PostedWritesTest, AnErrorIsTheResultOfTheNextCallThatCanHaveIt) {
  WriteOnce(file_);
  posted_.Lend(box_, true);
  Seal();
  ASSERT_TRUE(Post(file_, "lost"));
  ASSERT_TRUE(posted_.CarryOut(box_));
  EXPECT_EQ(Contents(file_), "-");
  EXPECT_FALSE(IsLent(file_));
  EXPECT_FALSE(posted_.TakeError(CallOf(SYS_write, pipe_[1])).has_value());
  EXPECT_FALSE(posted_.TakeError(CallOf(SYS_read, file_)).has_value());
  const auto error = posted_.TakeError(CallOf(SYS_write, file_));
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->error(), EPERM);
  EXPECT_FALSE(posted_.TakeError(CallOf(SYS_write, file_)).has_value()) << "once";
  EXPECT_EQ(posted_.TakeUnheard(), "");
}

TEST_F(PostedWritesTest, AnErrorThatNoCallCanHaveBecomesALine) {
  WriteOnce(file_);
  posted_.Lend(box_, true);
  Seal();
  ASSERT_TRUE(Post(file_, "lost"));
  ASSERT_TRUE(posted_.CarryOut(box_));
  EXPECT_TRUE(PostedWrites::EndsDescriptors(CallOf(SYS_exit_group, 0)));
  EXPECT_FALSE(PostedWrites::EndsDescriptors(CallOf(SYS_write, file_)));
  const std::string line = posted_.TakeUnheard();
  EXPECT_EQ(line.find("dunebox: ["), 0u);
  EXPECT_NE(line.find("descriptor " + std::to_string(file_) + " has failed: Operation not permitted [E0310]\n"),
            std::string::npos)
      << line;
  EXPECT_EQ(posted_.TakeUnheard(), "");
}

TEST_F(PostedWritesTest, NonsenseIsNotCarriedOut) {
  WriteOnce(file_);
  const auto with = [&](std::uint64_t used, abi::PostedRecord record) {
    posted_.Lend(box_, true);
    std::memcpy(box_.records, &record, sizeof(record));
    box_.used = used;
    return posted_.CarryOut(box_);
  };
  const auto file = static_cast<std::uint32_t>(file_), other = static_cast<std::uint32_t>(pipe_[1]);
  EXPECT_FALSE(with(sizeof(box_.records) + 8, {file, 4})) << "more than there can be";
  EXPECT_FALSE(with(~std::uint64_t{0}, {file, 4}));
  EXPECT_FALSE(with(4, {file, 4})) << "half a record";
  EXPECT_FALSE(with(8, {file, 4})) << "a record without its bytes";
  EXPECT_FALSE(with(16, {file, 9})) << "bytes behind the last record";
  EXPECT_FALSE(with(16, {file, 0}));
  EXPECT_FALSE(with(4080, {file, DUNE_POSTED_MOST_BYTES + 1}));
  EXPECT_FALSE(with(16, {file, ~std::uint32_t{0}}));
  EXPECT_FALSE(with(16, {other, 4})) << "a descriptor that was not lent";
  EXPECT_FALSE(with(16, {file + 64, 4}));
  EXPECT_FALSE(with(16, {~std::uint32_t{0}, 4}));
  EXPECT_EQ(Contents(file_), "-");
  EXPECT_TRUE(with(16, {file, 4}));
}

}  // namespace
}  // namespace dunebox::process
