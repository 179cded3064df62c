// What libdune's ring 0 costs, beside what Linux offers for the same: run in the lab with --icount,
// where the clock counts instructions. One line a row: name, instructions of Linux's, of libdune's, exits of the virtual
// machine that libdune's took (its host's counter, which forgets machines that are gone: then it is not told).
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dune/dune.h"
#include "dune/page_table.h"
#include "dune/trap.h"
#include "dune/user.h"
#include "dunebox/compartment.h"

asm(R"(
        .pushsection .text
        .balign 4096
user_calls:
        syscall
        jmp     user_calls
        .balign 4096
        .popsection
)");
extern "C" const char user_calls[];

namespace {

using dune::PageTable;
using dune::Range;
using dune::Rights;

constexpr std::size_t kPages = 100;
constexpr std::size_t kTracked = std::size_t{1} << 30;
constexpr std::size_t kDirtyEach = 100;  // one page of a hundred
constexpr std::uintptr_t kCode = 0x400000, kData = 0x5000'0000;

void Check(bool fine, const char* what) {
  if (fine) return;
  std::fprintf(stderr, "dune_operations: %s failed\n", what);
  std::exit(1);
}

std::uint64_t Now() {
  std::timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// Exits of all virtual machines that there are.
double Exits() {
  char text[32] = "";
  const int counter = open("/sys/kernel/debug/kvm/exits", O_RDONLY | O_CLOEXEC);
  Check(counter >= 0 && read(counter, text, sizeof(text) - 1) > 0, "the counter of exits");
  close(counter);
  return std::atof(text);
}

struct Cost {
  double clock = 0;  // instructions
  double exits = 0;  // negative: cannot be told
  Cost Each(int times) const { return {clock / times, exits / times}; }
};

// What happens between its beginning and Read. The counter outside, the clock inside.
class Meter {
 public:
  Meter() : exits_(Exits()), begin_(Now()) {}
  Cost Read() const {
    const auto clock = static_cast<double>(Now() - begin_);
    return {clock, std::max(0.0, Exits() - exits_ - own_exits)};
  }
  // Again for each place to run in: reading the counter takes exits itself.
  static void Calibrate() {
    own_exits = 0;
    double least = 1e18;
    for (int i = 0; i < 10; ++i) least = std::min(least, Meter().Read().exits);
    own_exits = least;
  }

 private:
  static inline double own_exits = 0;
  const double exits_;
  const std::uint64_t begin_;
};

// Of one of `times`, after a first round that meets everything for the first time.
Cost CostOf(int times, const std::function<void()>& operation) {
  operation();
  const Meter meter;
  for (int i = 0; i < times; ++i) operation();
  return meter.Read().Each(times);
}

volatile char* memory;
volatile char* tracked;

Range PageOf(std::uintptr_t address) { return {address & ~std::uintptr_t{4095}, 4096}; }
Range Some(std::size_t first, std::size_t count) {
  return {reinterpret_cast<std::uintptr_t>(memory) + first * 4096, count * 4096};
}

// ---- traps ----
void SkipBySignal(int, siginfo_t*, void* context) {
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2;
}
dune::Resolution Skip(dune::TrapFrame& frame) {
  frame.rip += 2;
  return dune::Resolution::kResume;
}
// A division by zero: KVM looks at invalid instructions itself. DIV %ecx has two bytes.
void Trap() { asm volatile("xor %%ecx, %%ecx; div %%ecx" ::: "rax", "rcx", "rdx", "memory"); }

// ---- Appel and Li ----
void OpenBySignal(int, siginfo_t* info, void*) {
  const Range page = PageOf(reinterpret_cast<std::uintptr_t>(info->si_addr));
  mprotect(reinterpret_cast<void*>(page.begin), page.size, PROT_READ | PROT_WRITE);
}
dune::Resolution Open(dune::PageFault& fault) {
  return PageTable::Current().Protect(PageOf(fault.address), Rights::kAll).ok()
             ? dune::Resolution::kResume
             : dune::Resolution::kPass;
}
void ProtectByKernel(Range range) {
  mprotect(reinterpret_cast<void*>(range.begin), range.size, PROT_READ);
}
void ProtectByTable(Range range) {
  Check(PageTable::Current().Protect(range, Rights::kRead).ok(), "Protect");
}
void One(void (*protect)(Range)) {
  for (std::size_t page = 0; page < kPages; ++page) {
    protect(Some(page, 1));
    memory[page * 4096] = 1;
  }
}
void All(void (*protect)(Range)) {
  protect(Some(0, kPages));
  for (std::size_t page = 0; page < kPages; ++page) memory[page * 4096] = 1;
}

// ---- the same by userfaultfd: a thread of the process's opens the pages ----
int userfault = -1;
void WriteProtect(Range range, bool is_on) {
  uffdio_writeprotect change{.range = {range.begin, range.size},
                             .mode = is_on ? UFFDIO_WRITEPROTECT_MODE_WP : std::uint64_t{0}};
  Check(ioctl(userfault, UFFDIO_WRITEPROTECT, &change) == 0, "UFFDIO_WRITEPROTECT");
}
void ProtectByUserfault(Range range) { WriteProtect(range, true); }
struct AppelLi {
  double one, all;
};
AppelLi CostByUserfault() {
  userfault = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
  uffdio_api api{.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
  const Range all = Some(0, kPages);
  uffdio_register registration{.range = {all.begin, all.size}, .mode = UFFDIO_REGISTER_MODE_WP};
  Check(ioctl(userfault, UFFDIO_API, &api) == 0 && ioctl(userfault, UFFDIO_REGISTER, &registration) == 0,
        "userfaultfd");
  constexpr int kTimes = 20;
  std::thread opener([] {
    uffd_msg message;
    for (std::size_t fault = 0; fault < 2 * (kTimes + 1) * kPages; ++fault) {
      Check(read(userfault, &message, sizeof(message)) == sizeof(message), "the fault's message");
      WriteProtect(PageOf(message.arg.pagefault.address), false);
    }
  });
  const AppelLi cost{CostOf(kTimes, [] { One(ProtectByUserfault); }).clock,
                     CostOf(kTimes, [] { All(ProtectByUserfault); }).clock};
  opener.join();
  close(userfault);
  return cost;
}

// ---- dirty pages ----
void Dirty() {
  for (std::size_t at = 0; at < kTracked; at += kDirtyEach * 4096) tracked[at] = 1;
}
std::size_t HarvestSoftDirty() {
  const int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  const int clear = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
  static std::uint64_t entries[8192];
  std::size_t found = 0;
  const auto first = reinterpret_cast<std::uintptr_t>(tracked) / 4096 * 8;
  for (std::size_t done = 0; done < kTracked / 4096 * 8; done += sizeof(entries)) {
    Check(pread(map, entries, sizeof(entries), static_cast<off_t>(first + done)) == sizeof(entries),
          "pagemap");
    for (const std::uint64_t entry : entries) found += entry >> 55 & 1;
  }
  Check(write(clear, "4", 1) == 1, "clear_refs");
  close(map);
  close(clear);
  return found;
}
std::size_t HarvestTable() {
  std::size_t found = 0;
  const Range all{reinterpret_cast<std::uintptr_t>(tracked), kTracked};
  Check(PageTable::Current()
            .TestAndClearDirty(all, [&](Range part) { found += part.size / 4096; })
            .ok(),
        "TestAndClearDirty");
  return found;
}

// ---- Linux's processes ----
void ForkAndWait() {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
}
// Of this process and of its children that are over: without what the kernel waits for while nobody computes.
std::uint64_t ProcessorTime() {
  std::timespec own{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
  rusage children{};
  getrusage(RUSAGE_CHILDREN, &children);
  const auto microseconds = static_cast<std::uint64_t>(children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1'000'000 +
                            static_cast<std::uint64_t>(children.ru_utime.tv_usec + children.ru_stime.tv_usec);
  return static_cast<std::uint64_t>(own.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(own.tv_nsec) +
         microseconds * 1000;
}
struct Fork {
  double clock, processor;
};
Fork CostOfFork(int times) {
  ForkAndWait();
  const std::uint64_t used = ProcessorTime();
  const double clock = CostOf(times, ForkAndWait).clock;
  return {clock, static_cast<double>(ProcessorTime() - used) / (times + 1)};
}
double PipeRound() {
  int there[2], back[2];
  Check(pipe(there) == 0 && pipe(back) == 0, "pipe");
  const pid_t child = fork();
  char byte = 0;
  if (child == 0) {
    close(there[1]);
    while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {
    }
    _exit(0);
  }
  const Cost cost = CostOf(500, [&] {
    Check(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "the pipe");
  });
  close(there[1]);
  waitpid(child, nullptr, 0);
  return cost.clock;
}

void Handle(int signal, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(signal, &action, nullptr);
}

struct Row {
  const char* name;
  double linux_cost;
  Cost dune;
};

PageTable UserTable() {
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kEmpty);
  Check(table.ok() &&
            table->Map({kCode, 4096}, user_calls, {.rights = Rights::kReadExecute}).ok() &&
            table->Map({kData, kPages * 4096}, const_cast<char*>(memory), {}).ok(),
        "a table");
  return *std::move(table);
}

// ---- clones of the process ----

std::size_t KnownPages(const PageTable& clone) {
  std::size_t known = 0;
  Check(clone.Visit({0, std::uintptr_t{1} << 46}, [&](const dune::Mapping&) { ++known; }).ok() &&
            clone.Visit({std::uintptr_t{1} << 46, std::uintptr_t{1} << 46}, [&](const dune::Mapping&) { ++known; }).ok(),
        "Visit");
  return known;
}

// The first write to each of 100 pages that a child has in common with us.
double WritesAfterFork() {
  double least = 1e18;
  for (int round = 0; round < 5; ++round) {
    int ends[2];
    Check(pipe(ends) == 0, "pipe");
    const pid_t child = fork();
    if (child == 0) {
      char byte;
      close(ends[1]);
      _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    const std::uint64_t begin = Now();
    for (std::size_t page = 0; page < kPages; ++page) memory[page * 4096] = 1;
    least = std::min(least, static_cast<double>(Now() - begin));
    close(ends[0]);
    close(ends[1]);
    waitpid(child, nullptr, 0);
  }
  return least / kPages;
}

void AddProcessClones(double fork, double write, std::vector<Row>& rows) {
  const auto clone = [] {
    auto made = PageTable::Current().Clone(PageTable::Sharing::kCopyOnWrite);
    Check(made.ok(), "Clone of the process");
    return *std::move(made);
  };
  std::printf("clones of the process: %zu pages\n", KnownPages(clone()));
  rows.push_back({"clone of the process, and its end (fork, exit, wait)", fork, CostOf(10, [&] { clone(); })});
  Cost least{.clock = 1e18};
  for (int round = 0; round < 5; ++round) {
    const PageTable made = clone();
    const Meter meter;
    for (std::size_t page = 0; page < kPages; ++page) memory[page * 4096] = 1;
    if (const Cost cost = meter.Read(); cost.clock < least.clock) least = cost;
  }
  rows.push_back({"the first write to a page after it (after a fork)", write, least.Each(kPages)});
}

// ---- compartments ----
using dunebox::Compartment;
using dunebox::CompartmentCode;
using dunebox::Grants;

std::shared_ptr<CompartmentCode> LoadCompartments() {
  auto code = CompartmentCode::Load({.libraries = {COMPARTMENT_CASES},
                                     .gates = {"sign", "lend"},
                                     .engine = dunebox::CompartmentEngine::kRing0});
  if (!code.ok()) std::fprintf(stderr, "%s\n", code.status().ToString().c_str());
  Check(code.ok(), "CompartmentCode::Load");
  return *std::move(code);
}

void AddCompartments(const std::shared_ptr<CompartmentCode>& code, double fork, double pipe,
                     std::vector<Row>& rows) {
  const auto create = [&](Grants grants) {
    auto made = Compartment::Create(code, std::move(grants));
    Check(made.ok(), "Compartment::Create");
    return *std::move(made);
  };
  const auto next_of = [](Compartment& of) { return *of.Function<int()>("next"); };
  const auto call = [](auto& function) { Check(function().ok(), "a call"); };
  auto region = *dunebox::Region::Create("region", 4096);

  rows.push_back({"compartment: create, and its end (fork, exit, wait)", fork,
                  CostOf(50, [&] { create(Grants()); })});
  rows.push_back({"the same with a region to read (fork, exit, wait)", fork, CostOf(50, [&] {
                    create(Grants().Add(region, dunebox::RegionAccess::kRead));
                  })});
  rows.push_back({"compartment: create, a call, its end (fork, exit, wait)", fork, CostOf(50, [&] {
                    const auto compartment = create(Grants());
                    auto next = next_of(*compartment);
                    call(next);
                  })});
  const auto used = create(Grants());
  auto next = next_of(*used);
  rows.push_back({"compartment: recycle, and a call (fork, exit, wait)", fork, CostOf(50, [&] {
                    Check(used->Recycle().ok(), "Recycle");
                    call(next);
                  })});
  rows.push_back({"into a compartment and back (pipe, there and back)", pipe, CostOf(500, [&] { call(next); })});
  const auto lend = dunebox::Gate::ToHost<long(long)>(
      "lend", 1l, [](long by, Compartment&, dunebox::Tainted<long> value) { return value.UnverifiedValue() + by; });
  const auto lending = create(Grants().Add(lend));
  auto use_lend = *lending->Function<long(long)>("use_lend");
  rows.push_back({"the same, and a gate to the host and back (two pipes)", 2 * pipe,
                  CostOf(500, [&] { Check(use_lend(41).ok(), "a call by a gate"); })});
}

}  // namespace

int main() {  // NOLINT(readability-function-size): measured one after the other
  const auto map = [](std::size_t bytes) {
    void* const place = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    Check(place != MAP_FAILED, "mmap");
    madvise(place, bytes, MADV_NOHUGEPAGE);
    return static_cast<char*>(place);
  };
  memory = map(kPages * 4096);
  tracked = map(kTracked);
  Handle(SIGFPE, SkipBySignal);
  Handle(SIGSEGV, OpenBySignal);

  const double trap = CostOf(1000, Trap).clock;
  const double call = CostOf(1000, [] { getppid(); }).clock;
  const double one = CostOf(20, [] { One(ProtectByKernel); }).clock;
  const double all = CostOf(20, [] { All(ProtectByKernel); }).clock;
  const AppelLi userfaults = CostByUserfault();
  HarvestSoftDirty();
  double harvest = 0;
  for (int round = 0; round < 3; ++round) {
    Dirty();
    const std::uint64_t begin = Now();
    Check(HarvestSoftDirty() >= kTracked / 4096 / kDirtyEach, "soft-dirty");
    harvest = static_cast<double>(Now() - begin);
  }
  munmap(const_cast<char*>(tracked), kTracked);
  const Fork fork_and_wait = CostOfFork(50);
  const double write_after_fork = WritesAfterFork();
  const double round = PipeRound();
  tracked = map(kTracked);

  Check(dune::Enter({.backend = dune::Wanted::kRing0}).ok(), "Enter");
  Meter::Calibrate();
  std::vector<Row> rows;
  Check(dune::SetTrapHandler(0, Skip, dune::HandlerKind::kLight).ok(), "SetTrapHandler");
  rows.push_back({"trap (light handler)", trap, CostOf(1000, Trap)});
  Check(dune::SetTrapHandler(0, Skip, dune::HandlerKind::kFull).ok(), "SetTrapHandler");
  rows.push_back({"trap (full handler)", trap, CostOf(1000, Trap)});
  Check(dune::SetPageFaultHandler(Open).ok(), "SetPageFaultHandler");
  const Cost own_one = CostOf(20, [] { One(ProtectByTable); });
  const Cost own_all = CostOf(20, [] { All(ProtectByTable); });
  rows.push_back({"Appel-Li 1, 100 pages (mprotect, SIGSEGV)", one, own_one});
  rows.push_back({"Appel-Li 1 (userfaultfd)", userfaults.one, own_one});
  rows.push_back({"Appel-Li 2, 100 pages (mprotect, SIGSEGV)", all, own_all});
  rows.push_back({"Appel-Li 2 (userfaultfd)", userfaults.all, own_all});
  AddProcessClones(fork_and_wait.clock, write_after_fork, rows);
  Check(PageTable::Current()
            .Track({reinterpret_cast<std::uintptr_t>(tracked), kTracked}, dune::Tracking::kDirty)
            .ok(),
        "Track");
  Cost own_harvest;
  for (int i = 0; i < 3; ++i) {
    Dirty();
    const Meter meter;
    Check(HarvestTable() == (kTracked / 4096 + kDirtyEach - 1) / kDirtyEach, "the harvest");
    own_harvest = meter.Read();
  }
  rows.push_back({"harvest of 1 GiB, 1 % dirty (soft-dirty)", harvest, own_harvest});
  // As rarely as a collector's old generation is: one table of 2 MiB in a hundred.
  for (int i = 0; i < 2; ++i) {
    tracked[0] = 1;
    tracked[200 << 20] = 1;
    const Meter meter;
    Check(HarvestTable() == 2, "the harvest");
    own_harvest = meter.Read();
  }
  rows.push_back({"the same, 2 pages dirty", harvest, own_harvest});

  PageTable table = UserTable();
  dune::UserContext context;
  context.rip = kCode;
  rows.push_back({"into ring 3 and back by SYSCALL (pipe, there and back)", round,
                  CostOf(1000, [&] { Check(dune::RunUser(context, table).ok(), "RunUser"); })});
  rows.push_back({"the same with a time limit", round, CostOf(500, [&] {
                    Check(dune::RunUser(context, table, {.time = absl::Seconds(10)}).ok(), "RunUser");
                  })});
  rows.push_back(
      {"compartment: clone of 100 pages, and its end (fork, exit, wait)", fork_and_wait.clock,
       CostOf(50, [&] { Check(table.Clone(PageTable::Sharing::kCopyOnWrite).ok(), "Clone"); })});
  AddCompartments(LoadCompartments(), fork_and_wait.clock, round, rows);
  munmap(const_cast<char*>(tracked), kTracked);
  const Fork own_fork = CostOfFork(20);
  rows.push_back({"fork, exit, wait: the clock", fork_and_wait.clock, {own_fork.clock, -1}});
  rows.push_back({"fork, exit, wait: the processor", fork_and_wait.processor, {own_fork.processor, -1}});
  rows.push_back({"getppid", call, CostOf(200, [] { getppid(); })});
  std::printf("| instructions | Linux | libdune, ring 0 | ratio | exits |\n|---|---|---|---|---|\n");
  for (const Row& row : rows) {
    std::printf("| %s | %.0f | %.0f | %.2f | ", row.name, row.linux_cost, row.dune.clock, row.linux_cost / row.dune.clock);
    row.dune.exits < 0 ? std::printf("- |\n") : std::printf("%.2f |\n", row.dune.exits);
  }
}
