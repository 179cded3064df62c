// Copy-on-write clones of the process's own page table. Run in the lab; the last line is "ring 0 works" when all of it did.
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "dune/dune.h"
#include "dune/page_table.h"
#include "dune/trap.h"
#include "dune/user.h"
#include "tests/libdune/ring0/expect.h"

namespace {

using dune::PageTable;
using dune::Range;
using dune::Rights;

constexpr std::size_t kFramePool = std::size_t{16} << 20;
constexpr std::size_t kPage = dune::kPageSize;
constexpr auto kRefused = absl::StatusCode::kFailedPrecondition;

char* Pages(std::size_t count) {
  void* const memory = mmap(nullptr, count * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Expect(memory != MAP_FAILED, "mmap");
  return static_cast<char*>(memory);
}
std::uintptr_t Address(const void* at) { return reinterpret_cast<std::uintptr_t>(at); }

PageTable CloneOfCurrent() {
  absl::StatusOr<PageTable> clone = PageTable::Current().Clone(PageTable::Sharing::kCopyOnWrite);
  if (!clone.ok()) std::printf("%s\n", std::string(clone.status().message()).c_str());
  Expect(clone.ok(), "Clone");
  return *std::move(clone);
}
std::optional<char> Had(const PageTable& clone, const volatile char* at) {
  char value = 0;
  if (!clone.Read(&value, reinterpret_cast<std::uintptr_t>(at), 1).ok()) return std::nullopt;
  return value;
}

void Moments() {
  volatile char* const memory = Pages(4);
  volatile char on_stack = 1;
  for (int page = 0; page < 4; ++page) memory[page * 4096] = 1;
  const PageTable first = CloneOfCurrent();
  Expect(first.Walk(Address(const_cast<char*>(memory)))->copy_on_write &&
             PageTable::Current().Walk(Address(const_cast<char*>(memory)))->copy_on_write &&
             PageTable::Current().Walk(Address(const_cast<char*>(memory)))->rights == Rights::kReadWrite,
         "a page in common");
  memory[0] = 2;
  on_stack = 2;
  const PageTable second = CloneOfCurrent();
  memory[0] = 3;
  memory[4096] = 3;
  on_stack = 3;
  Expect(Had(first, memory) == 1 && Had(second, memory) == 2 && memory[0] == 3, "each has its moment's");
  Expect(Had(first, memory + 4096) == 1 && Had(second, memory + 4096) == 1 && memory[4096] == 3, "where both had the same");
  Expect(Had(first, &on_stack) == 1 && Had(second, &on_stack) == 2 && on_stack == 3, "the stack's, too");
  Expect(Had(second, memory + 8192) == 1, "what nobody has written to");
  Expect(!first.Walk(Address(const_cast<char*>(memory)))->copy_on_write &&
             first.Walk(Address(const_cast<char*>(memory)))->memory != Address(const_cast<char*>(memory)) &&
             !PageTable::Current().Walk(Address(const_cast<char*>(memory)))->copy_on_write,
         "a page of its own");
  // More than a page, with parts of both kinds.
  std::string all(3 * kPage, 'x');
  Expect(first.Read(all.data(), Address(const_cast<char*>(memory)), all.size()).ok() && all[0] == 1 &&
             all[kPage] == 1 && all[2 * kPage] == 1 && all[1] == 0,
         "Read");
  Expect(first.Read(all.data(), 4096, 1).code() == absl::StatusCode::kNotFound, "nothing is there");
  int pages = 0;
  Expect(first.Visit({Address(const_cast<char*>(memory)), 4 * kPage}, [&](const dune::Mapping&) { ++pages; }).ok() &&
             pages == 4,
         "Visit");
  std::puts("ok moments");
}

void WhatGoes() {
  char* const memory = Pages(5);
  for (std::size_t page = 0; page < 5; ++page) std::memset(memory + page * kPage, 'a' + static_cast<int>(page), kPage);
  const PageTable clone = CloneOfCurrent();
  Expect(munmap(memory, kPage) == 0, "munmap");
  Expect(mmap(memory, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory, "mmap");
  memory[5] = 'n';
  Expect(madvise(memory + kPage, kPage, MADV_DONTNEED) == 0, "madvise");
  Expect(mprotect(memory + 2 * kPage, kPage, PROT_NONE) == 0, "mprotect");
  Expect(mremap(memory + 3 * kPage, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, Pages(1)) != MAP_FAILED, "mremap");
  Expect(mprotect(memory + 4 * kPage, kPage, PROT_READ) == 0, "mprotect");
  for (int page = 0; page < 5; ++page) {
    Expect(Had(clone, memory + static_cast<std::size_t>(page) * kPage + 5) == 'a' + page, "it is there in the clone");
  }
  Expect(mprotect(memory + 4 * kPage, kPage, PROT_READ | PROT_WRITE) == 0, "mprotect");
  memory[4 * kPage + 5] = 'z';
  Expect(Had(clone, memory + 4 * kPage + 5) == 'e', "with rights that came back");
  std::puts("ok what goes");
}

// System V's memory comes and goes by calls of its own.
void SegmentsThatGo() {
  const int segment = shmget(IPC_PRIVATE, 2 * kPage, IPC_CREAT | 0600);
  Expect(segment >= 0, "shmget");
  auto* const memory = static_cast<char*>(shmat(segment, nullptr, 0));
  Expect(reinterpret_cast<std::intptr_t>(memory) != -1, "shmat");
  memory[5] = 's', memory[kPage + 5] = 't';
  char* const replaced = Pages(2);
  replaced[5] = 'r';
  const PageTable clone = CloneOfCurrent();
  Expect(shmat(segment, replaced, SHM_REMAP) == replaced && replaced[5] == 's', "shmat in the place of something");
  Expect(Had(clone, replaced + 5) == 'r', "which the clone has");
  const Range range{Address(memory), 2 * kPage};
  Expect(PageTable::Current().Protect(range, Rights::kRead).ok(), "Protect");
  Expect(shmdt(memory) == 0 && Had(clone, memory + 5) == 's' && Had(clone, memory + kPage + 5) == 't', "shmdt");
  volatile char* const other =
      static_cast<char*>(mmap(memory, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  Expect(other == memory, "mmap in its place");
  other[5] = 'o';
  Expect(other[5] == 'o' && shmdt(memory) != 0 && errno == EINVAL && other[5] == 'o', "without the limit of before");
  Expect(shmdt(replaced) == 0 && shmctl(segment, IPC_RMID, nullptr) == 0, "the segment goes");
  std::puts("ok segments");
}

// The compiler does not know that a store may call a handler.
volatile int handled = 0;
dune::Resolution Open(dune::PageFault& fault) {
  handled = handled + 1;
  const Range page{fault.address & ~(kPage - 1), kPage};
  return PageTable::Current().Protect(page, Rights::kAll).ok() ? dune::Resolution::kResume : dune::Resolution::kPass;
}

// Limits and dirty bits are what they were without a clone.
void BesideTheRest() {
  char* const memory = Pages(3);
  volatile char* const bytes = memory;
  std::memset(memory, 1, 3 * kPage);
  PageTable& current = PageTable::Current();
  const Range range{Address(memory), 3 * kPage};
  Expect(current.Track(range, dune::Tracking::kDirty).ok(), "Track");
  Expect(current.Protect({Address(memory), kPage}, Rights::kNone).ok(), "Protect");
  Expect(dune::SetPageFaultHandler(Open).ok(), "a handler");
  const PageTable clone = CloneOfCurrent();
  Expect(Had(clone, bytes) == 1 && handled == 0, "a limit is none for the clone");
  bytes[kPage] = 2;
  Expect(handled == 0, "a page that is lent is no page that is limited");
  bytes[0] = 2;
  Expect(handled == 1 && Had(clone, bytes) == 1 && Had(clone, bytes + kPage) == 1, "the handler's page");
  std::vector<Range> written;
  Expect(current.TestAndClearDirty(range, [&](Range one) { written.push_back(one); }).ok() && written.size() == 1 &&
             written[0] == Range{Address(memory), 2 * kPage},
         "what was written");
  bytes[0] = 3;
  written.clear();
  Expect(current.TestAndClearDirty(range, [&](Range one) { written.push_back(one); }).ok() && written.size() == 1,
         "and once more");
  Expect(dune::SetPageFaultHandler(nullptr).ok(), "no handler");
  std::puts("ok beside the rest");
}

// What another processor writes meanwhile is in a clone or not; what is in it stays so.
void WhileOthersWrite() {
  constexpr std::size_t kPages = 32;
  auto* const words = reinterpret_cast<std::atomic<std::uint64_t>*>(Pages(kPages));
  const auto word = [&](std::size_t page) -> std::atomic<std::uint64_t>& { return words[page * 512 + 7]; };
  for (std::size_t page = 0; page < kPages; ++page) word(page) = 0;
  std::atomic<bool> stop{false};
  constexpr int kWriters = 2;
  std::vector<std::thread> writers;
  writers.reserve(kWriters);
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&] {
      for (std::size_t page = 0; !stop; page = (page + 1) % kPages) ++word(page);
    });
  }
  for (int round = 0; round < 30; ++round) {
    std::uint64_t before[kPages], after[kPages], then[kPages];
    for (std::size_t page = 0; page < kPages; ++page) before[page] = word(page);
    const PageTable clone = CloneOfCurrent();
    for (std::size_t page = 0; page < kPages; ++page) after[page] = word(page);
    for (int look = 0; look < 3; ++look) {
      for (std::size_t page = 0; page < kPages; ++page) {
        std::uint64_t seen = 0;
        Expect(clone.Read(&seen, Address(&word(page)), sizeof(seen)).ok(), "Read");
        Expect(seen >= before[page] && seen <= after[page], "a value of the clone's moment");
        Expect(look == 0 || seen == then[page], "which stays");
        then[page] = seen;
      }
    }
  }
  stop = true;
  for (std::thread& writer : writers) writer.join();
  std::puts("ok while others write");
}

void Refusals() {
  PageTable clone = CloneOfCurrent();
  dune::UserContext context;
  Expect(clone.Activate().code() == kRefused && dune::RunUser(context, clone).status().code() == kRefused &&
             dune::CopyToUser(clone, Address(&context), "", 1).code() == kRefused,
         "a clone is not to be used");
  Expect(!dune::CopyFromUser(clone, &context, Address(&context), 1).ok(), "nor has ring 3 anything in it");
  absl::StatusOr<PageTable> other = PageTable::Create(PageTable::Contents::kEmpty);
  Expect(other.ok() && other->Share({std::uintptr_t{1} << 40, std::size_t{1} << 30}, clone).code() == kRefused, "Share");
  Expect(!clone.Clone(PageTable::Sharing::kCopyOnWrite).ok() &&
             !PageTable::Current().Clone(PageTable::Sharing::kShare).ok() &&
             !PageTable::Current().Clone(PageTable::Sharing::kTemplate).ok() && !other->Read(&context, 0, 1).ok(),
         "what there is not");
  std::vector<PageTable> clones;
  for (int count = 1; count < 16; ++count) clones.push_back(CloneOfCurrent());
  Expect(PageTable::Current().Clone(PageTable::Sharing::kCopyOnWrite).status().code() ==
             absl::StatusCode::kResourceExhausted,
         "the seventeenth");
  clones.clear();
  CloneOfCurrent();
  std::puts("ok refusals");
}

// Another table with the process's, and a child.
void OtherWriters() {
  volatile char* const memory = Pages(2);
  memory[0] = 1;
  memory[4096] = 1;
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kProcess);
  Expect(table.ok(), "a table with the process");
  const PageTable clone = CloneOfCurrent();
  Expect(table->Activate().ok(), "Activate");
  memory[0] = 2;
  Expect(PageTable::Current().Activate().ok(), "back");
  Expect(memory[0] == 2 && Had(clone, memory) == 1, "written by a table that has the process's");
  const pid_t child = fork();
  if (child == 0) {
    memory[4096] = 3;
    _exit(Had(clone, memory) == 1 && Had(clone, memory + 4096) == 1 && memory[4096] == 3 ? 0 : 1);
  }
  int status = -1;
  Expect(waitpid(child, &status, 0) == child && status == 0, "a forked child's");
  memory[4096] = 4;
  Expect(Had(clone, memory + 4096) == 1, "and the parent's");
  // A call of the kernel's fills a page that ring 0 has written to.
  int ends[2];
  Expect(pipe(ends) == 0 && write(ends[1], "k", 1) == 1, "a pipe");
  const PageTable later = CloneOfCurrent();
  memory[4096] = 0;
  Expect(read(ends[0], const_cast<char*>(memory) + 4096, 1) == 1 && memory[4096] == 'k' &&
             Had(later, memory + 4096) == 4,
         "read");
  close(ends[0]);
  close(ends[1]);
  std::puts("ok other writers");
}

// Frames: none is lost, and where there is none left the clone has lost the page, not the process.
void Frames() {
  constexpr std::size_t kMany = 2 * kFramePool / kPage;
  volatile char* const memory = Pages(kMany);
  for (std::size_t page = 0; page < kMany; ++page) memory[page * kPage] = 1;
  for (int round = 0; round < 20; ++round) {
    const PageTable clone = CloneOfCurrent();
    for (std::size_t page = 0; page < kMany / 4; ++page) memory[page * kPage] = static_cast<char>(round);
    Expect(Had(clone, memory + 5 * kPage) == (round == 0 ? 1 : round - 1), "a copy");
  }
  const PageTable clone = CloneOfCurrent();
  for (std::size_t page = 0; page < kMany; ++page) memory[page * kPage] = 2;
  char value = 0;
  Expect(clone.Read(&value, Address(const_cast<char*>(memory)), 1).ok(), "the first are there");
  Expect(clone.Read(&value, Address(const_cast<char*>(memory)) + (kMany - 1) * kPage, 1).code() ==
             absl::StatusCode::kResourceExhausted,
         "the last are not");
  Expect(memory[(kMany - 1) * kPage] == 2, "in the process they are");
  std::puts("ok frames");
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  EnterRing0({.frame_pool = kFramePool});
  Expect(dune::GetCapabilities().process_clones, "the capability");
  Moments();
  WhatGoes();
  SegmentsThatGo();
  BesideTheRest();
  WhileOthersWrite();
  Refusals();
  OtherWriters();
  Frames();
  std::puts("ring 0 works");
}
