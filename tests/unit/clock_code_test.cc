// What of a vDSO's code ring 0 is given to run, and that the copy never asks the kernel.
#include "runtime/process/clock_code.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "runtime/process/guest_vdso.h"
#include "runtime/text_file.h"

namespace dunebox::process {
namespace {

constexpr std::uint64_t kData = 4096;

std::vector<std::byte> Bytes(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

bool IsFit(std::initializer_list<int> values) {
  return ClockCode(Bytes(values), 0, kData).has_value();
}

TEST(ClockCode, ReplacesEverySystemCallAndNothingElse) {
  // xor eax, eax; jne 1f; mov eax, 0x00050f; call 2f; 1: syscall; ret; 2: syscall; ret; syscall
  const auto code = Bytes({0x31, 0xc0, 0x75, 0x0a, 0xb8, 0x0f, 0x05, 0x00, 0x00, 0xe8, 0x03,
                           0x00, 0x00, 0x00, 0x0f, 0x05, 0xc3, 0x0f, 0x05, 0xc3, 0x0f, 0x05});
  const auto fit = ClockCode(code, 0, kData);
  ASSERT_TRUE(fit.has_value());
  auto wanted = code;
  for (const std::size_t at : {14u, 17u}) {
    wanted[at] = std::byte{0xf7};
    wanted[at + 1] = std::byte{0xd8};
  }
  EXPECT_EQ(*fit, wanted);  // what cannot be reached is left as it is
}

TEST(ClockCode, RefusesWhatRing0ShouldNotRun) {
  EXPECT_TRUE(IsFit(
      {0x0f, 0x01, 0xf9, 0x0f, 0xae, 0xe8, 0x0f, 0x31, 0xf3, 0x90, 0xc3}));  // rdtscp, lfence, ...
  EXPECT_FALSE(IsFit({0xff, 0xe0}));                                         // jmp rax
  EXPECT_FALSE(IsFit({0xff, 0xd0, 0xc3}));                                   // call rax
  EXPECT_FALSE(IsFit({0x0f, 0x10, 0x06, 0xc3}));                             // movups (rsi), xmm0
  EXPECT_FALSE(IsFit({0xc5, 0xf8, 0x77, 0xc3}));                             // vzeroupper
  EXPECT_FALSE(IsFit({0xd9, 0xe8, 0xc3}));                                   // fld1
  EXPECT_FALSE(IsFit({0x65, 0x48, 0x8b, 0x06, 0xc3}));                       // mov rax, gs:(rsi)
  EXPECT_FALSE(IsFit({0x0f, 0x01, 0xf8, 0xc3}));                             // swapgs
  EXPECT_FALSE(IsFit({0xfa, 0xc3}));                                         // cli
  EXPECT_FALSE(IsFit({0x0f, 0x30, 0xc3}));                                   // wrmsr
  EXPECT_FALSE(IsFit({0x0f, 0x22, 0xd8, 0xc3}));                             // mov cr3, rax
  EXPECT_FALSE(IsFit({0xcd, 0x80, 0xc3}));                                   // int 0x80
  EXPECT_FALSE(IsFit({0x9d, 0xc3}));                                         // popf
  EXPECT_FALSE(IsFit({0xeb, 0x10, 0xc3}));                                   // jmp out of the image
  EXPECT_FALSE(IsFit({0xe8, 0x00, 0xff, 0xff, 0xff, 0xc3}));                 // call before it
  EXPECT_FALSE(IsFit({0x31, 0xc0}));                                         // off its end
}

TEST(ClockCode, ItsDataAreTheClockPagesAndItself) {
  // mov eax, disp32(rip); ret. The next instruction is at 6.
  const auto reads = [](std::int32_t displacement) {
    auto code = Bytes({0x8b, 0x05, 0, 0, 0, 0, 0xc3});
    std::memcpy(&code[2], &displacement, sizeof(displacement));
    return ClockCode(code, 0, kData).has_value();
  };
  EXPECT_TRUE(reads(-6 - static_cast<std::int32_t>(kData)));
  EXPECT_FALSE(reads(-6 - static_cast<std::int32_t>(kData) - 1));
  EXPECT_TRUE(reads(0));
  EXPECT_FALSE(reads(1));
}

// This machine's, above pages of zeros: by those no clock runs that counts by the processor.
TEST(ClockCode, TheKernelsOwnSaysWhatItCannotTell) {
  const auto maps = runtime::ReadTextFile("/proc/self/maps");
  ASSERT_TRUE(maps.ok());
  const auto host = FindHostVdso(*maps);
  void* const library = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (!host || library == nullptr) GTEST_SKIP() << "no vDSO here";
  const void* const function = dlvsym(library, "__vdso_clock_gettime", "LINUX_2.6");
  ASSERT_NE(function, nullptr);
  const std::uint64_t data = host->code - host->data, size = host->end - host->code;
  const std::uint64_t entry = reinterpret_cast<std::uint64_t>(function) - host->code;
  const auto code = ClockCode({reinterpret_cast<const std::byte*>(host->code), size}, entry, data);
  ASSERT_TRUE(code.has_value());

  void* const pages =
      mmap(nullptr, data + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  std::byte* const copy = static_cast<std::byte*>(pages) + data;
  std::memcpy(copy, code->data(), code->size());
  ASSERT_EQ(mprotect(copy, size, PROT_READ | PROT_EXEC), 0);
  const auto tell = reinterpret_cast<int (*)(clockid_t, timespec*)>(copy + entry);
  for (const clockid_t clock :
       {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID,
        CLOCK_THREAD_CPUTIME_ID, clockid_t{17}, clockid_t{-6}}) {
    timespec time{.tv_sec = 1, .tv_nsec = 2};
    EXPECT_NE(tell(clock, &time), 0) << clock;
  }
  munmap(pages, data + size);
  dlclose(library);
}

}  // namespace
}  // namespace dunebox::process
