// What ring 0 offers: rights, dirty and accessed pages, and exceptions of the program's own,
// without an exit. Run in the lab; the last line is "ring 0 works" when all of it did.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "dune/dune.h"
#include "dune/page_table.h"
#include "dune/trap.h"
#include "tests/libdune/ring0/expect.h"

namespace {

using dune::PageTable;
using dune::Range;
using dune::Rights;
using dune::Tracking;

constexpr std::size_t kPages = 2048;

volatile char* Memory() {
  static void* const memory =
      mmap(nullptr, kPages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return static_cast<volatile char*>(memory);
}
Range Pages(std::size_t first, std::size_t count) {
  return {reinterpret_cast<std::uintptr_t>(Memory()) + first * 4096, count * 4096};
}

std::string Harvest(Range range, Tracking tracking) {
  std::string found;
  const auto note = [&](Range part) {
    const std::size_t first = (part.begin - Pages(0, 0).begin) / 4096;
    found += std::to_string(first) + "+" + std::to_string(part.size / 4096) + " ";
  };
  const absl::Status done = tracking == Tracking::kDirty
                                ? PageTable::Current().TestAndClearDirty(range, note)
                                : PageTable::Current().TestAndClearAccessed(range, note);
  Expect(done.ok(), "TestAndClear");
  return found;
}

void Dirty() {
  PageTable& table = PageTable::Current();
  const Range all = Pages(0, kPages);
  for (std::size_t page = 0; page < kPages; ++page) Memory()[page * 4096] = 1;
  Expect(!table.TestAndClearDirty(all, [](Range) {}).ok(), "not tracked yet");
  Expect(Harvest(Pages(0, 0), Tracking::kDirty).empty(), "nothing of nothing");
  Expect(table.Track(all, Tracking::kDirty).ok(), "Track");
  Expect(Harvest(all, Tracking::kDirty).empty(), "clean to begin with");
  Memory()[5 * 4096] = 2;
  Memory()[6 * 4096 + 9] = 2;
  Memory()[1500 * 4096] = 2;
  static_cast<void>(Memory()[700 * 4096]);
  Expect(Harvest(all, Tracking::kDirty) == "5+2 1500+1 ", "what was written, and no more");
  Expect(Harvest(all, Tracking::kDirty).empty(), "and only once");
  // Parts of large ones: the short cut by upper entries must not lose anything.
  for (int round = 0; round < 50; ++round) {
    const auto page = static_cast<std::size_t>(round) * 37 % kPages;
    Memory()[page * 4096] = 3;
    if (round % 3 == 0) Harvest(Pages(page / 64 * 64, 64), Tracking::kDirty);
    const std::string wanted = round % 3 == 0 ? "" : std::to_string(page) + "+1 ";
    Expect(Harvest(all, Tracking::kDirty) == wanted, "a part and the whole");
  }
  mprotect(const_cast<char*>(Memory()) + 8 * 4096, 4096, PROT_READ);
  mprotect(const_cast<char*>(Memory()) + 8 * 4096, 4096, PROT_READ | PROT_WRITE);
  Memory()[9 * 4096] = 1;
  Expect(Harvest(all, Tracking::kDirty) == "9+1 ", "mprotect is no write");
  Expect(table.Track(all, Tracking::kAccessed).ok(), "Track accessed");
  static_cast<void>(Memory()[700 * 4096]);
  Expect(Harvest(all, Tracking::kAccessed) == "700+1 ", "what was read");

  // Every write of another processor is told, by one harvest or the next.
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> written{0};
  std::thread writer([&] {
    while (!stop) {
      const std::uint64_t next = written + 1;
      Memory()[(next % 64) * 4096 + 8] = static_cast<char>(next);
      written = next;
    }
  });
  for (int round = 0; round < 20; ++round) {
    const std::uint64_t before = written;
    while (written < before + 3) {
    }
    Expect(!Harvest(Pages(0, 64), Tracking::kDirty).empty(), "another processor's writes");
  }
  stop = true;
  writer.join();
  Harvest(all, Tracking::kDirty);
  Expect(Harvest(all, Tracking::kDirty).empty(), "nobody writes any more");
  Expect(table.Untrack(all, Tracking::kDirty).ok(), "Untrack");
  std::puts("ok dirty and accessed");
}

// What a call that fails was to take away is tracked and limited as before; what goes is not.
void FailedCalls() {
  constexpr std::size_t kCount = 16, kBytes = kCount * 4096;
  PageTable& table = PageTable::Current();
  auto* const memory =
      static_cast<volatile char*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  auto* const raw = const_cast<char*>(memory);
  const Range all{reinterpret_cast<std::uintptr_t>(raw), kBytes};
  const auto written = [&](std::size_t pages) {
    std::string found;
    const bool told = table.TestAndClearDirty({all.begin, pages * 4096}, [&](Range part) {
                             found += std::to_string((part.begin - all.begin) / 4096) + "+" + std::to_string(part.size / 4096) + " ";
                           }).ok();
    return told ? found : "not tracked";
  };
  for (std::size_t page = 0; page < kCount; ++page) memory[page * 4096] = 1;
  Expect(table.Track(all, Tracking::kDirty).ok() && written(kCount).empty(), "tracked");
  Expect(table.Protect({all.begin + 9 * 4096, 4096}, Rights::kRead).ok(), "a limit");
  memory[5 * 4096] = 2;
  Expect(munmap(raw + 1, kBytes - 4096) != 0, "munmap of no page");
  Expect(mremap(raw, kBytes, std::size_t{1} << 46, 0) == MAP_FAILED, "mremap to too much");
  Expect(mremap(raw, kBytes, std::size_t{1} << 47, MREMAP_MAYMOVE) == MAP_FAILED, "or elsewhere");
  Expect(mmap(raw, kBytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED, "mmap of no file");
  Expect(memory[5 * 4096] == 2, "it is there");
  memory[6 * 4096] = 2;
  Expect(written(kCount) == "5+2 ", "what was written, before and after");
  Expect(table.Walk(all.begin + 9 * 4096)->rights == Rights::kRead, "the limit is there");
  memory[3 * 4096] = 2;
  Expect(mremap(raw, kBytes, kBytes - 4 * 4096, 0) == raw, "it shrinks where it is");
  Expect(written(kCount - 4) == "3+1 ", "what is left is tracked");
  Expect(written(kCount) == "not tracked", "what is not is not");
  memory[2 * 4096] = 2;
  void* const target = mmap(nullptr, 4 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Expect(mremap(raw, 4 * 4096, 4 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target, "a part moves");
  Expect(static_cast<volatile char*>(target)[2 * 4096] == 2 && written(kCount - 4) == "not tracked", "and is not tracked any more");
  std::puts("ok calls that fail");
}

// ---- rights and page faults
// ----------------------------------------------------------------------

// The compiler does not know that a store may call a handler.
volatile int faults = 0;
volatile std::uintptr_t last_fault = 0;
double from_handler = 0;

dune::Resolution Unprotect(dune::PageFault& fault) {
  faults = faults + 1;
  last_fault = fault.address;
  const Range page{fault.address & ~std::uintptr_t{4095}, 4096};
  return PageTable::Current().Protect(page, Rights::kAll).ok() ? dune::Resolution::kResume
                                                               : dune::Resolution::kPass;
}

// Uses the library, the vector registers and system calls.
dune::Resolution UnprotectFully(dune::PageFault& fault) {
  const std::vector<double> values(100, 0.25);
  from_handler = 0;
  for (const double value : values) from_handler += value;
  char text[64];
  std::snprintf(text, sizeof(text), "%f", from_handler);
  Expect(std::strcmp(text, "25.000000") == 0, "the library in a handler");
  return Unprotect(fault);
}

dune::Resolution SkipStore(dune::PageFault& fault) {
  faults = faults + 1;
  fault.frame.rip += 3;  // MOVB $9, (%rax)
  return dune::Resolution::kResume;
}

dune::Resolution Refuse(dune::PageFault&) { return dune::Resolution::kPass; }

sigjmp_buf jump;
void* volatile signal_address = nullptr;

void JumpOut(int, siginfo_t* info, void*) {
  signal_address = info->si_addr;
  siglongjmp(jump, 1);
}

void Faults() {
  PageTable& table = PageTable::Current();
  for (const auto handler : {Unprotect, UnprotectFully}) {
    Expect(dune::SetPageFaultHandler(handler).ok(), "a handler");
    Expect(table.Protect(Pages(3, 2), Rights::kRead).ok(), "Protect");
    faults = 0;
    const double kept = 1.5 + faults;
    Expect(Memory()[3 * 4096] == 1 && faults == 0, "it can be read");
    Memory()[3 * 4096 + 100] = 4;
    Expect(faults == 1 && last_fault == Pages(3, 0).begin + 100, "a write faults, once");
    Memory()[3 * 4096 + 100] = 5;
    Expect(faults == 1 && Memory()[3 * 4096 + 100] == 5 && kept == 1.5, "and is made again");
    Expect(table.Walk(Pages(4, 0).begin)->rights == Rights::kRead, "Walk tells the limit");
    Expect(table.Protect(Pages(4, 1), Rights::kNone).ok(), "Protect from all");
    faults = 0;
    Expect(Memory()[4 * 4096] == 1 && faults == 1, "a read faults");
    Expect(table.Walk(Pages(4, 0).begin)->rights == Rights::kReadWrite, "Walk tells the rights");
  }
  // A light one touches nothing but the frame.
  Expect(dune::SetPageFaultHandler(SkipStore, dune::HandlerKind::kLight).ok(), "a light handler");
  Expect(table.Protect(Pages(4, 1), Rights::kRead).ok(), "Protect");
  faults = 0;
  asm volatile("movb $9, (%0)" : : "a"(Memory() + 4 * 4096) : "memory");
  Expect(faults == 1 && Memory()[4 * 4096] == 1, "it skips the store");
  Expect(table.Protect(Pages(4, 1), Rights::kAll).ok(), "the limit ends");

  // Memory the process has forbidden, or has not at all, is told after the process's own mappings
  // were looked at.
  Expect(dune::SetPageFaultHandler([](dune::PageFault& fault) {
           faults = faults + 1;
           mprotect(reinterpret_cast<void*>(fault.address & ~std::uintptr_t{4095}), 4096,
                    PROT_READ | PROT_WRITE);
           return dune::Resolution::kResume;
         }).ok(),
         "a handler that uses mprotect");
  mprotect(const_cast<char*>(Memory()), 4096, PROT_READ);
  faults = 0;
  Memory()[0] = 7;
  Expect(faults == 1 && Memory()[0] == 7, "mprotect's faults come to the handler");

  struct sigaction action {};
  action.sa_sigaction = JumpOut;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  Expect(dune::SetPageFaultHandler(Refuse).ok(), "a handler that passes");
  Expect(table.Protect(Pages(3, 1), Rights::kRead).ok(), "Protect");
  for (int round = 0; round < 20; ++round) {
    if (sigsetjmp(jump, 1) == 0) {
      Memory()[3 * 4096 + 1] = 1;
      Expect(false, "it was forbidden");
    }
    Expect(signal_address == Memory() + 3 * 4096 + 1, "what is passed becomes a signal");
  }
  Expect(dune::SetPageFaultHandler(nullptr).ok(), "no handler");
  if (sigsetjmp(jump, 1) == 0) {
    Memory()[3 * 4096 + 2] = 1;
    Expect(false, "it was forbidden");
  }
  Expect(signal_address == Memory() + 3 * 4096 + 2, "without a handler it is a signal");
  Expect(table.Protect(Pages(3, 1), Rights::kAll).ok(), "the limit ends");
  Memory()[3 * 4096 + 2] = 1;
  auto* const gone =
      static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  munmap(gone, 4096);
  Expect(table.Protect({reinterpret_cast<std::uintptr_t>(gone), 4096}, Rights::kRead).code() ==
             absl::StatusCode::kNotFound,
         "nothing to protect");
  std::puts("ok rights and page faults");
}

// Another processor sees a right go at once.
void ShootDown() {
  PageTable& table = PageTable::Current();
  Expect(dune::SetPageFaultHandler([](dune::PageFault& fault) {
           return Memory()[4] == 1 ? Unprotect(fault) : dune::Resolution::kPass;
         }).ok(),
         "a handler");
  Memory()[4] = 1;
  std::atomic<bool> stop{false};
  std::atomic<int> count{0};
  std::thread writer([&] {
    while (!stop) {
      Memory()[10 * 4096] = static_cast<char>(count);
      ++count;
    }
  });
  for (int round = 0; round < 20; ++round) {
    const int before = faults;
    Expect(table.Protect(Pages(10, 1), Rights::kRead).ok(), "Protect");
    const int seen = count;
    while (count < seen + 3) {
    }
    Expect(faults == before + 1, "the other processor's write faults");
  }
  stop = true;
  writer.join();
  Expect(dune::SetPageFaultHandler(nullptr).ok(), "no handler");
  std::puts("ok shoot-down");
}

// ---- other exceptions
// ----------------------------------------------------------------------------

volatile int traps = 0;

dune::Resolution SkipTwo(dune::TrapFrame& frame) {
  traps = traps + 1;
  frame.rip += 2;
  frame.rbx = 77;
  return dune::Resolution::kResume;
}

// A handler that causes what it handles.
dune::Resolution Nested(dune::TrapFrame& frame) {
  traps = traps + 1;
  if (traps < 3) asm volatile("ud2");
  frame.rip += 2;
  return dune::Resolution::kResume;
}

void Vectors() {
  constexpr unsigned kInvalidOpcode = 6;
  for (const auto kind : {dune::HandlerKind::kLight, dune::HandlerKind::kFull}) {
    Expect(dune::SetTrapHandler(kInvalidOpcode, SkipTwo, kind).ok(), "SetTrapHandler");
    traps = 0;
    std::uint64_t rbx = 1;
    // The red zone below the stack pointer stays as it is.
    std::uint64_t red_zone = 0;
    asm volatile("movq $42, -8(%%rsp); ud2; movq -8(%%rsp), %1"
                 : "+b"(rbx), "=r"(red_zone)
                 :
                 : "memory");
    Expect(traps == 1 && rbx == 77 && red_zone == 42, "the handler changes the registers");
    Expect(dune::SetTrapHandler(kInvalidOpcode, Nested, kind).ok(), "SetTrapHandler");
    traps = 0;
    asm volatile("ud2");
    Expect(traps == 3, "handlers in handlers");
  }
  Expect(dune::SetTrapHandler(kInvalidOpcode, nullptr).ok(), "no handler");
  Expect(!dune::SetTrapHandler(8, SkipTwo).ok(), "#DF is not the program's");
  std::puts("ok vectors");
}

}  // namespace

int main() {
  EnterRing0();
  Dirty();
  FailedCalls();
  Faults();
  ShootDown();
  Vectors();
  std::puts("ring 0 works");
}
