// Page tables of the program's own, and ring 3 in them. Run in the lab; the last line is "ring 0
// works" when all of it did.
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include "dune/dune.h"
#include "dune/page_table.h"
#include "dune/user.h"
#include "tests/libdune/ring0/expect.h"

// Ring 3's program: adds what it is given, in general and vector registers, and stops by a system
// call each time.
asm(R"(
        .pushsection .text
        .balign 4096
user_code:
        addq    %rdi, %rbx
        paddq   %xmm0, %xmm0
        movq    %rbx, 8(%rsp)
        rdfsbase %rsi
        movl    $77, %eax
        syscall
        jmp     user_code
        .balign 64
user_spin:
        incq    %rbx
        jmp     user_spin
        .balign 64
user_privileged:
        movq    %cr3, %rax
        .balign 64
user_store:
        movb    $9, (%rdi)
        movl    $1, %eax
        syscall
        .balign 64
user_meet:
        movq    $1, (%rdi)
1:      pause
        cmpq    $0, 8(%rdi)
        je      1b
        movl    $78, %eax
        syscall
user_met:
        .balign 64
user_count:
        incq    (%rdi)
        jmp     user_count
        .balign 4096
        .popsection
)");
extern "C" const char user_code[], user_spin[], user_privileged[], user_store[], user_meet[], user_met[],
    user_count[];

namespace {

using dune::PageTable;
using dune::Range;
using dune::Rights;
using dune::StopReason;

constexpr std::size_t kFramePool = std::size_t{16} << 20;  // a frame lost a round would be seen
constexpr std::uintptr_t kCode = 0x400000, kStack = 0x7000'0000, kHeap = 0x5000'0000;

char* Pages(std::size_t bytes) {
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Expect(memory != MAP_FAILED, "mmap");
  return static_cast<char*>(memory);
}

char* stack_memory;
char* heap_memory;

PageTable MakeTable() {
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kEmpty);
  Expect(table.ok(), "an empty table");
  Expect(table->Map({kCode, 4096}, user_code, {.rights = Rights::kReadExecute}).ok(), "code");
  Expect(table->Map({kStack, 4096}, stack_memory, {}).ok(), "a stack");
  Expect(table->Map({kHeap, 8192}, heap_memory, {}).ok(), "a heap");
  return *std::move(table);
}

std::uintptr_t UserAddress(const char* label) {
  return kCode + static_cast<std::uintptr_t>(label - user_code);
}

dune::Stop Run(dune::UserContext& context, PageTable& table) {
  const absl::StatusOr<dune::Stop> stop = dune::RunUser(context, table);
  if (!stop.ok()) std::printf("%s\n", std::string(stop.status().message()).c_str());
  Expect(stop.ok(), "RunUser");
  return *stop;
}

volatile sig_atomic_t alarms = 0;

void SystemCallsAndFaults() {
  PageTable table = MakeTable();
  dune::UserContext context;
  context.rip = kCode;
  context.rsp = kStack + 2048;
  context.rdi = 5;
  context.fs_base = 0x1234'5678;
  double before = 1.25;
  for (std::uint64_t round = 1; round <= 100; ++round) {
    const dune::Stop stop = Run(context, table);
    Expect(stop.reason == StopReason::kSystemCall && context.rax == 77, "a system call");
    Expect(context.rbx == 5 * round && context.rsi == 0x1234'5678, "registers and FS base");
    Expect(std::memcmp(stack_memory + 2056, &context.rbx, 8) == 0, "its stores are in our memory");
    Expect(before == 1.25, "our vector registers are ours");
    // Its vector register doubles each round, from the first's 1.
    std::uint64_t low = 0;
    if (round == 1) {
      low = 1;
      std::memcpy(context.extended.data() + 160, &low, 8);
      context.extended[512] |= std::byte{2};
    } else if (round < 60) {
      std::memcpy(&low, context.extended.data() + 160, 8);
      Expect(low == std::uint64_t{1} << (round - 1), "its vector registers are kept");
    }
  }
  context.rip = UserAddress(user_privileged);
  dune::Stop stop = Run(context, table);
  Expect(stop.reason == StopReason::kFault && stop.vector == 13, "MOV CR3 is not ring 3's");
  Expect(context.rip == UserAddress(user_privileged), "RIP at the instruction");
  for (const std::uintptr_t target :
       {reinterpret_cast<std::uintptr_t>(&alarms), std::uintptr_t{0xffff'ff80'0000'8000},
        std::uintptr_t{0xffff'ff80'0001'0000}, kCode}) {
    context.rip = UserAddress(user_store);
    context.rdi = target;
    stop = Run(context, table);
    Expect(stop.reason == StopReason::kFault && stop.vector == 14 && stop.address == target,
           "what is not ring 3's faults");
  }
  signal(SIGALRM, [](int) { alarms = alarms + 1; });
  for (int round = 0; round < 5; ++round) {
    const int seen = alarms;
    // One that comes before it runs is not the last.
    const itimerval timer{{0, 20'000}, {0, 20'000}}, none{};
    setitimer(ITIMER_REAL, &timer, nullptr);
    context.rip = UserAddress(user_spin);
    stop = Run(context, table);
    setitimer(ITIMER_REAL, &none, nullptr);
    Expect(stop.reason == StopReason::kInterrupted && alarms > seen, "a signal interrupts it");
  }
  std::puts("ok system calls and faults");
}

// Alone and among signals; no timer is left behind for the program's own calls.
void TimeLimits() {
  PageTable table = MakeTable();
  dune::UserContext context;
  context.rsp = kStack + 2048;
  dune::Stop stop{};
  for (int round = 0; round < 6; ++round) {
    if (round == 3) {
      // Each run has all of its time again, so some have to be without a signal.
      const itimerval often{{0, 30'000}, {0, 30'000}};
      setitimer(ITIMER_REAL, &often, nullptr);
    }
    const std::uint64_t counted = context.rbx;
    context.rip = UserAddress(user_spin);
    do {
      const absl::StatusOr<dune::Stop> timed = dune::RunUser(context, table, {.time = absl::Milliseconds(20)});
      if (!timed.ok()) std::printf("%s\n", std::string(timed.status().message()).c_str());
      Expect(timed.ok() && timed->reason != StopReason::kFault && timed->reason != StopReason::kSystemCall,
             "RunUser with a limit");
      stop = *timed;
    } while (stop.reason == StopReason::kInterrupted || context.rbx == counted);
    Expect(stop.reason == StopReason::kTime, "the time is over");
  }
  const itimerval none{};
  setitimer(ITIMER_REAL, &none, nullptr);
  context.rip = kCode;
  absl::StatusOr<dune::Stop> short_one = dune::RunUser(context, table, {.time = absl::Milliseconds(30)});
  while (short_one.ok() && short_one->reason == StopReason::kTime) {
    short_one = dune::RunUser(context, table, {.time = absl::Milliseconds(30)});
  }
  Expect(short_one.ok() && short_one->reason == StopReason::kSystemCall, "a call before its time is over");
  const timespec rest{0, 60'000'000};
  Expect(nanosleep(&rest, nullptr) == 0, "no timer is left");
  short_one = dune::RunUser(context, table, {.time = absl::ZeroDuration()});
  Expect(short_one.ok() && short_one->reason == StopReason::kTime, "no time at all");
  std::thread([&] {
    context.rip = UserAddress(user_spin);
    const absl::StatusOr<dune::Stop> timed = dune::RunUser(context, table, {.time = absl::Milliseconds(10)});
    Expect(timed.ok() && timed->reason == StopReason::kTime, "in another thread");
  }).join();
  const pid_t child = fork();
  if (child == 0) {
    context.rip = UserAddress(user_spin);
    const absl::StatusOr<dune::Stop> timed = dune::RunUser(context, table, {.time = absl::Milliseconds(10)});
    _exit(timed.ok() && timed->reason == StopReason::kTime ? 0 : 1);
  }
  int status = -1;
  Expect(waitpid(child, &status, 0) == child && status == 0, "in a forked child");
  context.rip = std::uint64_t{1} << 47;
  Expect(dune::RunUser(context, table).status().code() == absl::StatusCode::kInvalidArgument,
         "a RIP that IRETQ would not take");
  std::puts("ok time limits");
}

// Of the way in and out.
void SignalsAtEveryPlace() {
  PageTable table = MakeTable();
  dune::UserContext context;
  context.rsp = kStack + 2048;
  context.rip = kCode;
  context.rdi = 1;
  context.rbx = 0;
  const itimerval often{{0, 700}, {0, 700}};
  setitimer(ITIMER_REAL, &often, nullptr);
  std::uint64_t calls = 0;
  for (int stops = 0; stops < 1000; ++stops) {
    const dune::Stop one = Run(context, table);
    Expect(one.reason != StopReason::kFault, "no fault from a signal");
    if (one.reason == StopReason::kSystemCall) Expect(context.rbx == ++calls, "no call is lost");
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  std::puts("ok signals at every place");
}

void Copies() {
  PageTable table = MakeTable();
  const char text[] = "over the edge of a page";
  Expect(dune::CopyToUser(table, kHeap + 4090, text, sizeof(text)).ok(), "CopyToUser");
  char back[sizeof(text)] = {};
  Expect(dune::CopyFromUser(table, back, kHeap + 4090, sizeof(text)).ok() &&
             std::strcmp(back, text) == 0 && std::strcmp(heap_memory + 4090, text) == 0,
         "CopyFromUser");
  Expect(!dune::CopyToUser(table, kHeap + 8190, text, sizeof(text)).ok(), "past its end");
  Expect(!dune::CopyToUser(table, kCode, text, sizeof(text)).ok(), "into its code");
  Expect(!dune::CopyFromUser(table, back, reinterpret_cast<std::uintptr_t>(back), 4).ok(),
         "of ours");

  // A clone is the same until one of the two writes.
  heap_memory[0] = 1;
  absl::StatusOr<PageTable> clone = table.Clone(PageTable::Sharing::kCopyOnWrite);
  Expect(clone.ok() && clone->Walk(kHeap)->copy_on_write, "Clone");
  dune::UserContext context;
  context.rsp = kStack + 2048;
  for (PageTable* const writer : {&*clone, &table}) {
    context.rip = UserAddress(user_store);
    context.rdi = kHeap;
    Expect(Run(context, *writer).reason == StopReason::kSystemCall, "a store to what is shared");
    char value = 0;
    Expect(dune::CopyFromUser(*writer, &value, kHeap, 1).ok() && value == 9, "is its own");
    Expect(heap_memory[0] == 1, "and not the process's");
    value = 4;
    Expect(dune::CopyToUser(*writer, kHeap, &value, 1).ok(), "CopyToUser to a copy");
  }
  absl::StatusOr<PageTable> again = clone->Clone(PageTable::Sharing::kCopyOnWrite);
  Expect(again.ok(), "Clone of a clone");
  const char eight = 8;
  Expect(dune::CopyToUser(*again, kHeap, &eight, 1).ok(), "CopyToUser copies");
  char value = 0;
  Expect(dune::CopyFromUser(*clone, &value, kHeap, 1).ok() && value == 4, "for itself alone");
  Expect(
      table.Unmap({kHeap, 4096}).ok() && !table.Walk(kHeap).ok() && table.Walk(kHeap + 4096).ok(),
      "Unmap");
  Expect(again->Track({kHeap, 4096}, dune::Tracking::kDirty).ok(), "Track");
  context.rip = UserAddress(user_store);
  context.rdi = kHeap;
  Run(context, *again);
  int written = 0;
  Expect(again->TestAndClearDirty({kHeap, 4096}, [&](Range) { ++written; }).ok() && written == 1,
         "ring 3's dirty pages");
  std::puts("ok copies");
}

char ByteAt(PageTable& table, std::uintptr_t address) {
  char value = 0;
  Expect(dune::CopyFromUser(table, &value, address, 1).ok(), "CopyFromUser");
  return value;
}

// Clones that share the template's very tables until they change something.
void Templates() {
  heap_memory[0] = 1, heap_memory[4096] = 2;
  auto origin = std::make_unique<PageTable>(MakeTable());
  absl::StatusOr<PageTable> one = origin->Clone(PageTable::Sharing::kTemplate);
  absl::StatusOr<PageTable> other = origin->Clone(PageTable::Sharing::kTemplate);
  Expect(one.ok() && other.ok(), "clones of a template");
  constexpr auto kRefused = absl::StatusCode::kFailedPrecondition;
  dune::UserContext context;
  context.rsp = kStack + 2048;
  Expect(origin->Unmap({kHeap, 4096}).code() == kRefused &&
             origin->Protect({kHeap, 4096}, Rights::kRead).code() == kRefused &&
             origin->Map({kHeap, 4096}, heap_memory, {}).code() == kRefused &&
             origin->Activate().code() == kRefused &&
             dune::RunUser(context, *origin).status().code() == kRefused &&
             dune::CopyToUser(*origin, kHeap, "", 1).code() == kRefused,
         "a template stays as it is");
  Expect(one->Clone(PageTable::Sharing::kTemplate).status().code() == kRefused, "nor is a clone one");

  const auto store = [&](PageTable& table, std::uintptr_t address) {
    context.rip = UserAddress(user_store);
    context.rdi = address;
    return Run(context, table).reason;
  };
  Expect(store(*one, kHeap) == StopReason::kSystemCall, "a store in a clone");
  Expect(ByteAt(*one, kHeap) == 9 && ByteAt(*other, kHeap) == 1 && heap_memory[0] == 1, "is the clone's alone");
  Expect(ByteAt(*one, kHeap + 4096) == 2, "what is beside it is there");
  // Changes of a table are the clone's alone as well, whatever page they are of.
  Expect(one->Unmap({kHeap + 4096, 4096}).ok() && !one->Walk(kHeap + 4096).ok(), "Unmap in a clone");
  Expect(ByteAt(*other, kHeap + 4096) == 2, "is not the other's");
  Expect(other->Protect({kHeap, 4096}, Rights::kRead).ok() &&
             store(*other, kHeap) == StopReason::kFault,
         "Protect");
  Expect(other->Protect({kHeap, 4096}, Rights::kReadWrite).ok() &&
             store(*other, kHeap) == StopReason::kSystemCall && heap_memory[0] == 1,
         "rights that come back are rights to a copy");
  // A clone outlives it, and one made later begins as the first did.
  absl::StatusOr<PageTable> third = origin->Clone(PageTable::Sharing::kTemplate);
  absl::StatusOr<PageTable> copy = one->Clone(PageTable::Sharing::kCopyOnWrite);
  origin.reset();
  one = absl::CancelledError();
  Expect(third.ok() && ByteAt(*third, kHeap) == 1 && store(*third, kHeap) == StopReason::kSystemCall &&
             ByteAt(*third, kHeap) == 9,
         "without the template");
  Expect(copy.ok() && ByteAt(*copy, kHeap) == 9 && ByteAt(*copy, kStack) == stack_memory[0],
         "and a copy of a clone");

  // Memory of the process's that a table has copies of.
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kEmpty);
  Expect(table.ok() && table->Map({kCode, 4096}, user_code, {.rights = Rights::kReadExecute}).ok() &&
             table->Map({kHeap, 8192}, heap_memory, {.rights = Rights::kRead, .copy_on_write = true}).ok() &&
             store(*table, kHeap) == StopReason::kFault &&
             table->Protect({kHeap, 8192}, Rights::kReadWrite).ok() &&
             store(*table, kHeap) == StopReason::kSystemCall && ByteAt(*table, kHeap) == 9 &&
             heap_memory[0] == 1,
         "MapOptions::copy_on_write");
  for (std::size_t round = 0; round < kFramePool / 4096; ++round) {
    absl::StatusOr<PageTable> many = table->Clone(PageTable::Sharing::kTemplate);
    Expect(many.ok() && dune::CopyToUser(*many, kHeap, "x", 1).ok(), "no frame is lost");
  }
  std::puts("ok templates");
}

// Ring 3's registers are those it stopped with, whatever faults ring 0 has on its way back to RunUser's caller: the pages of
// the context are looked up anew, because another thread has changed their rights meanwhile.
void FaultsOnTheWayBack() {
  PageTable table = MakeTable();
  constexpr std::size_t kContextBytes = (sizeof(dune::UserContext) + 4095) & ~std::size_t{4095};
  auto& context = *new (Pages(kContextBytes)) dune::UserContext;
  auto* const meeting = reinterpret_cast<std::atomic<std::uint64_t>*>(heap_memory);
  for (std::uint64_t round = 1; round <= 20; ++round) {
    meeting[0] = meeting[1] = 0;
    std::thread other([&] {
      while (meeting[0] == 0) __builtin_ia32_pause();
      Expect(mprotect(&context, kContextBytes, PROT_READ | PROT_WRITE) == 0, "mprotect");
      meeting[1] = 1;
    });
    context.rip = UserAddress(user_meet);
    context.rsp = kStack + 2048;
    context.rdi = kHeap;
    context.rbx = round;
    const dune::Stop stop = Run(context, table);
    Expect(stop.reason == StopReason::kSystemCall && context.rax == 78, "it stops where it did");
    Expect(context.rip == UserAddress(user_met) && context.rbx == round && context.rsp == kStack + 2048,
           "with the registers that it had");
    other.join();
  }
  std::puts("ok faults on the way back");
}

// What a clone has stays as it is although ring 3 runs in the other table all the time: whoever writes there next is told apart from
// the one that has the page alone again.
void ClonesOfWhatRuns() {
  absl::StatusOr<PageTable> table = MakeTable().Clone(PageTable::Sharing::kCopyOnWrite);
  Expect(table.ok(), "Clone");
  std::atomic<bool> stop{false};
  std::thread counting([&] {
    dune::UserContext context;
    context.rip = UserAddress(user_count);
    context.rdi = kHeap;
    while (!stop) {
      const absl::StatusOr<dune::Stop> stopped = dune::RunUser(context, *table, {.time = absl::Milliseconds(5)});
      Expect(stopped.ok() && stopped->reason != StopReason::kFault, "counting");
    }
  });
  const auto count_in = [](PageTable& of) {
    std::uint64_t count = 0;
    Expect(dune::CopyFromUser(of, &count, kHeap, sizeof(count)).ok(), "CopyFromUser");
    return count;
  };
  for (int round = 0; round < 150; ++round) {
    absl::StatusOr<PageTable> clone = table->Clone(PageTable::Sharing::kCopyOnWrite);
    Expect(clone.ok(), "Clone");
    const std::uint64_t then = count_in(*clone);
    for (int wait = 0; wait < 5000; ++wait) asm volatile("");
    Expect(count_in(*clone) == then, "the clone's own");
    absl::StatusOr<PageTable> other = clone->Clone(PageTable::Sharing::kCopyOnWrite);
    Expect(other.ok() && dune::CopyToUser(*other, kHeap, "12345678", 8).ok() && count_in(*clone) == then, "and its clone's");
  }
  const std::uint64_t before = count_in(*table);
  while (count_in(*table) == before) __builtin_ia32_pause();
  stop = true;
  counting.join();
  std::puts("ok clones of what runs");
}

// The thread goes on in another table that has the process's memory, and a page of its own choice
// elsewhere.
void Activating() {
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kProcess);
  Expect(table.ok(), "a table with the process");
  constexpr std::uintptr_t kAlias = 0x1000'0000'0000;
  char* const memory = Pages(4096);
  memory[7] = 3;
  Expect(table->Map({kAlias, 4096}, memory, {.ring = dune::Ring::kSupervisor}).ok(), "an alias");
  Expect(table->Activate().ok(), "Activate");
  auto* const alias = reinterpret_cast<volatile char*>(kAlias);
  Expect(alias[7] == 3, "the alias is there");
  alias[8] = 4;
  Expect(memory[8] == 4, "it is the same memory");
  Expect(!dune::Leave().ok(), "Leave needs Current()");
  // What is mapped meanwhile is there, and in new threads, too.
  std::string text(1 << 20, 'x');
  std::thread([&] { Expect(alias[7] == 3 && text[9] == 'x', "a thread made here"); }).join();
  std::printf("a line from another table\n");
  Expect(PageTable::Current().Activate().ok(), "back");
  absl::StatusOr<PageTable> other = PageTable::Create(PageTable::Contents::kEmpty);
  Expect(other->Share({kAlias, std::size_t{1} << 30}, *table).ok(), "Share");
  Expect(other->Walk(kAlias)->memory == reinterpret_cast<std::uintptr_t>(memory), "what is shared");
  // Large pages.
  char* const wide = Pages(6 << 20);
  auto* const aligned = reinterpret_cast<char*>(
      (reinterpret_cast<std::uintptr_t>(wide) + (2 << 20) - 1) & ~std::uintptr_t{(2 << 20) - 1});
  Expect(other->Map({kHeap, 4 << 20}, aligned, {.page_size = dune::PageSize::k2MiB}).ok(), "2 MiB");
  int large = 0;
  Expect(other->Visit({kHeap, 4 << 20},
                      [&](const dune::Mapping& mapping) {
                        large += mapping.page.size == dune::kLargePageSize ? 1 : 0;
                      })
                 .ok() &&
             large == 2,
         "Visit");
  const char five = 5;
  Expect(dune::CopyToUser(*other, kHeap + (3 << 20), &five, 1).ok() && aligned[3 << 20] == 5,
         "through a large page");
  // Copied on write, a page at a time: the other pages stay those of both.
  absl::StatusOr<PageTable> copy = other->Clone(PageTable::Sharing::kCopyOnWrite);
  Expect(copy.ok() && copy->Walk(kHeap + (3 << 20))->copy_on_write &&
             copy->Walk(kHeap)->page.size == dune::kLargePageSize,
         "a clone with large pages");
  const char six = 6;
  Expect(dune::CopyToUser(*copy, kHeap + (3 << 20), &six, 1).ok() && aligned[3 << 20] == 5,
         "the clone's page is its own");
  Expect(copy->Walk(kHeap + (3 << 20))->page.size == dune::kPageSize &&
             copy->Walk(kHeap + (3 << 20) + 4096)->memory ==
                 reinterpret_cast<std::uintptr_t>(aligned + (3 << 20) + 4096) &&
             copy->Walk(kHeap)->page.size == dune::kLargePageSize &&
             other->Walk(kHeap + (3 << 20))->page.size == dune::kLargePageSize,
         "and no other");
  Expect(other->Map({kCode, 4096}, user_code, {.rights = Rights::kReadExecute}).ok(), "code");
  dune::UserContext context;
  context.rip = UserAddress(user_store);
  context.rdi = kHeap + 8192;
  Expect(Run(context, *other).reason == StopReason::kSystemCall && aligned[8192] == 0 &&
             other->Walk(kHeap + 8192)->page.size == dune::kPageSize,
         "the one that was cloned copies, too");
  char value = 9;
  Expect(dune::CopyFromUser(*copy, &value, kHeap + 8192, 1).ok() && value == 0, "what the clone sees");
  std::puts("ok tables");
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  EnterRing0({.frame_pool = kFramePool});
  stack_memory = Pages(4096);
  heap_memory = Pages(8192);
  Copies();
  Templates();
  Activating();
  FaultsOnTheWayBack();
  ClonesOfWhatRuns();
  SystemCallsAndFaults();
  TimeLimits();
  SignalsAtEveryPlace();
  std::puts("ring 0 works");
}
