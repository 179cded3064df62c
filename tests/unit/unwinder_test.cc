// The unwinder against this program's own stack: what glibc says of it is right.
#include "runtime/unwind/unwinder.h"

#include <execinfo.h>
#include <gtest/gtest.h>
#include <link.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>

namespace dunebox::unwind {
namespace {

constexpr std::size_t kMost = 64;

// As memory that may not be there: the kernel looks.
bool ReadOwn(std::uint64_t from, std::span<std::byte> to) {
  static const int memory = [] {
    int ends[2];
    return pipe(ends) == 0 ? ends[0] + (ends[1] << 16) : -1;
  }();
  for (std::size_t done = 0; done < to.size();) {
    const std::size_t count = std::min<std::size_t>(to.size() - done, 4096);
    // Not libc's: of a build with sanitizers it would complain.
    const long written = syscall(SYS_write, memory >> 16, from + done, count);
    if (written <= 0) return false;
    if (read(memory & 0xffff, to.data() + done, static_cast<std::size_t>(written)) != written) return false;
    done += static_cast<std::size_t>(written);
  }
  return true;
}

struct Search {
  std::uint64_t address;
  Code code;
};

int LookAt(dl_phdr_info* info, std::size_t, void* raw) {
  auto& search = *static_cast<Search*>(raw);
  for (const ElfW(Phdr)& segment : std::span(info->dlpi_phdr, info->dlpi_phnum)) {
    const std::uint64_t start = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0 && search.address - start < segment.p_memsz) {
      search.code.is_code = true;
    }
  }
  if (!search.code.is_code) return 0;
  for (const ElfW(Phdr)& segment : std::span(info->dlpi_phdr, info->dlpi_phnum)) {
    if (segment.p_type == PT_GNU_EH_FRAME) search.code.table = {.address = info->dlpi_addr + segment.p_vaddr};
  }
  return 1;
}

Code LookUpOwn(std::uint64_t address) {
  Search search{address, {}};
  dl_iterate_phdr(LookAt, &search);
  return search.code;
}

Frame FrameFrom(const ucontext_t& context) {
  const auto& registers = context.uc_mcontext.gregs;
  Frame frame{.is_interrupted = true};
  constexpr int kOrder[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
                            REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
  for (std::size_t number = 0; number < kRegisters; ++number) {
    frame.registers[number] = static_cast<std::uint64_t>(registers[kOrder[number]]);
  }
  return frame;
}

std::vector<std::uint64_t> Addresses(const std::vector<Frame>& frames) {
  std::vector<std::uint64_t> addresses;
  addresses.reserve(frames.size());
  for (const Frame& frame : frames) addresses.push_back(frame.pc());
  return addresses;
}

std::vector<std::uint64_t> glibcs, ours;
Frame interrupted;
std::function<void()> in_handler;  // while all of the frames are there

// Both see the frame of this handler and what is outside of it.
void OnSignal(int, siginfo_t*, void* context) {
  void* addresses[kMost];
  const int count = backtrace(addresses, kMost);
  glibcs.clear();
  for (void* address : std::span(addresses, static_cast<std::size_t>(count))) {
    glibcs.push_back(reinterpret_cast<std::uint64_t>(address));
  }
  interrupted = FrameFrom(*static_cast<ucontext_t*>(context));
  ucontext_t here;
  getcontext(&here);
  ours = Addresses(Unwind(ReadOwn, LookUpOwn, FrameFrom(here), kMost));
  if (in_handler) in_handler();
}

void Raise() {
  struct sigaction action {};
  action.sa_sigaction = OnSignal;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &action, nullptr);
  raise(SIGUSR1);
}

// Functions of several shapes between the signal and the test.
[[gnu::noinline]] std::size_t WithLargeFrame(std::size_t depth) {
  volatile char room[5000];
  room[depth] = 1;
  if (depth > 0) return WithLargeFrame(depth - 1) + static_cast<std::size_t>(room[depth]);
  Raise();
  return 0;
}
[[gnu::noinline]] std::size_t WithVariableFrame(std::size_t size) {
  auto* const room = static_cast<volatile char*>(__builtin_alloca(size));
  room[0] = 1;
  return WithLargeFrame(3) + static_cast<std::size_t>(room[0]);
}
int CompareAndRaise(const void* left, const void* right) {
  if (ours.empty()) WithVariableFrame(333);
  return *static_cast<const int*>(left) - *static_cast<const int*>(right);
}

// The signal comes within functions of ours, and of libc's, which calls back.
void TakeBothTraces(std::function<void()> meanwhile = nullptr) {
  in_handler = std::move(meanwhile);
  glibcs.clear();
  ours.clear();
  int numbers[] = {3, 1, 2};
  std::qsort(numbers, std::size(numbers), sizeof(int), CompareAndRaise);
}

TEST(Unwinder, FindsTheFramesThatGlibcFinds) {
  TakeBothTraces();
  ASSERT_GT(glibcs.size(), 10U);
  ASSERT_GT(ours.size(), 10U);
  // The innermost of each is its own place in the handler.
  const auto rest = std::ranges::find(glibcs, ours[1]);
  EXPECT_EQ(std::vector(ours.begin() + 1, ours.end()), std::vector(rest, glibcs.end()));
}

// .eh_frame, where .eh_frame_hdr says: the linker puts it behind, up to the end of the segment.
Code LookUpInEntries(std::uint64_t address) {
  Code code = LookUpOwn(address);
  if (!code.table) return code;
  std::array<std::byte, 8> head;
  EXPECT_TRUE(ReadOwn(code.table->address, head));
  constexpr std::byte kSigned4Relative{0x1b};
  EXPECT_EQ(head[1], kSigned4Relative);
  std::int32_t distance = 0;
  std::memcpy(&distance, head.data() + 4, sizeof(distance));
  const std::uint64_t entries = code.table->address + 4 + static_cast<std::uint64_t>(std::int64_t{distance});
  code.table = FrameTable{.address = entries, .size = std::uint64_t{64} << 20};
  return code;
}

TEST(Unwinder, FindsTheSameWithoutASortedTable) {
  std::vector<std::uint64_t> frames;
  TakeBothTraces([&] { frames = Addresses(Unwind(ReadOwn, LookUpInEntries, interrupted, kMost)); });
  const auto rest = std::ranges::find(glibcs, frames.front());
  ASSERT_NE(rest, glibcs.end());
  EXPECT_EQ(frames, std::vector(rest, glibcs.end()));
}

TEST(Unwinder, GoesOnFromAnInterruptedPlace) {
  std::vector<std::uint64_t> frames;
  TakeBothTraces([&] { frames = Addresses(Unwind(ReadOwn, LookUpOwn, interrupted, kMost)); });
  const auto rest = std::ranges::find(glibcs, frames.front());
  ASSERT_NE(rest, glibcs.end());
  EXPECT_EQ(frames, std::vector(rest, glibcs.end()));
}

TEST(Unwinder, FindsTheCallerOfAJumpToNowhere) {
  TakeBothTraces();
  // As if the interrupted function had called a null pointer.
  Frame nowhere = interrupted;
  std::uint64_t return_address = interrupted.pc();
  std::vector<std::byte> stack(8);
  std::memcpy(stack.data(), &return_address, 8);
  constexpr std::uint64_t kStack = 0x1000;
  const auto read = [&](std::uint64_t from, std::span<std::byte> to) {
    if (from != kStack) return ReadOwn(from, to);
    std::memcpy(to.data(), stack.data(), to.size());
    return true;
  };
  nowhere.registers[kReturnAddress] = 0;
  nowhere.registers[kRsp] = kStack;
  const std::vector<Frame> frames = Unwind(read, LookUpOwn, nowhere, 2);
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(frames[1].pc(), return_address);
  EXPECT_EQ(frames[1].registers[kRsp], kStack + 8);
}

TEST(Unwinder, FollowsFramePointersWhereThereIsNoTable) {
  constexpr std::uint64_t kStack = 0x7000;
  std::uint64_t stack[8] = {0, 0, kStack + 48, 0x401234, 0, 0, 0, 0x401555};
  const auto read = [&](std::uint64_t from, std::span<std::byte> to) {
    if (from < kStack || from + to.size() > kStack + sizeof(stack)) return false;
    std::memcpy(to.data(), reinterpret_cast<std::byte*>(stack) + (from - kStack), to.size());
    return true;
  };
  const auto look_up = [](std::uint64_t address) { return Code{.is_code = address >= 0x401000 && address < 0x402000}; };
  Frame innermost{.is_interrupted = true};
  innermost.registers[kReturnAddress] = 0x401010;
  innermost.registers[kRsp] = kStack;
  innermost.registers[kRbp] = kStack + 16;
  EXPECT_EQ(Addresses(Unwind(read, look_up, innermost, kMost)),
            (std::vector<std::uint64_t>{0x401010, 0x401234, 0x401555}));
}

TEST(Unwinder, EndsWhateverTheTablesAndTheStackSay) {
  std::mt19937_64 random(20261122);
  std::size_t longest = 0;
  const auto unwind_with_errors = [&](int round) {
    // One read in some has another byte than there is.
    const std::uint64_t seed = random();
    const unsigned rarity = 1U << (round % 10);
    const auto read = [&](std::uint64_t from, std::span<std::byte> to) {
      if (!ReadOwn(from, to)) return false;
      const std::uint64_t hash = (from * 0x9e3779b97f4a7c15U ^ seed) * 0x9e3779b97f4a7c15U;
      if ((hash >> 40) % rarity == 0) to[(hash >> 20) % to.size()] ^= static_cast<std::byte>(hash >> 56);
      return true;
    };
    const std::size_t count = Unwind(read, LookUpOwn, interrupted, kMost).size();
    EXPECT_LE(count, kMost);
    longest = std::max(longest, count);
  };
  TakeBothTraces([&] {
    for (int round = 0; round < 3000; ++round) unwind_with_errors(round);
  });
  EXPECT_GT(longest, 10U);  // so most of what there is to read has been read
}

}  // namespace
}  // namespace dunebox::unwind
