// libdune's software backend beside the same by hand. Processor time, for the machine is shared.
//
//   libdune_bench [--dirty=kernel|faults] [Google Benchmark's options]
#include <benchmark/benchmark.h>
#include <signal.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "dune/dune.h"
#include "dune/page_table.h"
#include "dune/trap.h"

namespace {

using dune::kPageSize;
using dune::PageTable;
using dune::Range;
using dune::Resolution;
using dune::Rights;

// Pages with memory of their own.
class Pages {
 public:
  explicit Pages(std::size_t count)
      : size_(count * kPageSize),
        memory_(static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    madvise(memory_, size_, MADV_NOHUGEPAGE);
    for (std::size_t page = 0; page < count; ++page) memory_[page * kPageSize] = 1;
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { munmap(memory_, size_); }

  void Write(std::size_t page) { static_cast<volatile char*>(memory_)[page * kPageSize] = 2; }
  void* at(std::size_t page) { return memory_ + page * kPageSize; }
  Range range(std::size_t first, std::size_t count) const {
    return {reinterpret_cast<std::uintptr_t>(memory_) + first * kPageSize, count * kPageSize};
  }
  Range range() const { return range(0, size_ / kPageSize); }

 private:
  const std::size_t size_;
  char* const memory_;
};

constexpr std::size_t kAppelPages = 100;

// ---- Appel and Li's two, as Dune's table has them -------------------------------------------------------------------

// What a handler is to do at each fault.
enum class Order { kOpen, kOpenAndCloseNext };
Order order;
Pages* pages_of_handler;
volatile std::size_t next_page;  // the handler reads it between two instructions

void OpenByHand(int, siginfo_t* info, void*) {
  const auto page = reinterpret_cast<std::uintptr_t>(info->si_addr) / kPageSize * kPageSize;
  mprotect(reinterpret_cast<void*>(page), kPageSize, PROT_READ | PROT_WRITE);
  if (order == Order::kOpenAndCloseNext) {
    mprotect(pages_of_handler->at(next_page), kPageSize, PROT_READ);
  }
}

class HandlerByHand {
 public:
  HandlerByHand() {
    struct sigaction action {};
    action.sa_sigaction = OpenByHand;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &before_);
  }
  HandlerByHand(const HandlerByHand&) = delete;
  HandlerByHand& operator=(const HandlerByHand&) = delete;
  ~HandlerByHand() { sigaction(SIGSEGV, &before_, nullptr); }

 private:
  struct sigaction before_ {};
};

Resolution OpenByDune(dune::PageFault& fault) {
  const Range page{fault.address / kPageSize * kPageSize, kPageSize};
  bool is_ok = PageTable::Current().Protect(page, Rights::kAll).ok();
  if (order == Order::kOpenAndCloseNext) {
    is_ok &= PageTable::Current().Protect(pages_of_handler->range(next_page, 1), Rights::kRead).ok();
  }
  return is_ok ? Resolution::kResume : Resolution::kPass;
}

class HandlerByDune {
 public:
  HandlerByDune() { Check(dune::SetPageFaultHandler(OpenByDune, dune::HandlerKind::kBrief)); }
  HandlerByDune(const HandlerByDune&) = delete;
  HandlerByDune& operator=(const HandlerByDune&) = delete;
  ~HandlerByDune() { Check(dune::SetPageFaultHandler(nullptr)); }

  static void Check(const absl::Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "dunebox: %s\n", std::string(status.message()).c_str());
    std::abort();
  }
};

void CloseByHand(Pages& pages, Range range) {
  static_cast<void>(pages);
  mprotect(reinterpret_cast<void*>(range.begin), range.size, PROT_READ);
}
void CloseByDune(Pages& pages, Range range) {
  static_cast<void>(pages);
  HandlerByDune::Check(PageTable::Current().Protect(range, Rights::kRead));
}

// Code by hand knows that nobody else changes what it has mapped; libdune is told, or asks the kernel.
struct NotClaimed {
  explicit NotClaimed(Range) {}
};
class Claimed {
 public:
  explicit Claimed(Range range) : range_(range) { HandlerByDune::Check(PageTable::Current().Claim(range_)); }
  Claimed(const Claimed&) = delete;
  Claimed& operator=(const Claimed&) = delete;
  ~Claimed() { HandlerByDune::Check(PageTable::Current().Disclaim(range_)); }

 private:
  const Range range_;
};

// Each page once: trap, open it and close another in the handler.
template <typename Handler, void (*Close)(Pages&, Range), typename Claim = NotClaimed>
void AppelLi1(benchmark::State& state) {
  Pages pages(2 * kAppelPages);
  const Claim claim(pages.range());
  const Handler handler;
  pages_of_handler = &pages;
  order = Order::kOpenAndCloseNext;
  std::size_t page = 0;
  Close(pages, pages.range(0, 1));
  for (auto _ : state) {
    next_page = (page + 2) % (2 * kAppelPages);
    pages.Write(page);
    page = next_page;
  }
  pages_of_handler = nullptr;
}
BENCHMARK(AppelLi1<HandlerByHand, CloseByHand>)->Name("appel_li_1/by_hand");
BENCHMARK(AppelLi1<HandlerByDune, CloseByDune>)->Name("appel_li_1/libdune_asks");
BENCHMARK(AppelLi1<HandlerByDune, CloseByDune, Claimed>)->Name("appel_li_1/libdune");

// All pages closed at once, and opened one by one.
template <typename Handler, void (*Close)(Pages&, Range), typename Claim = NotClaimed>
void AppelLi2(benchmark::State& state) {
  Pages pages(kAppelPages);
  const Claim claim(pages.range());
  const Handler handler;
  order = Order::kOpen;
  for (auto _ : state) {
    Close(pages, pages.range());
    for (std::size_t page = 0; page < kAppelPages; ++page) pages.Write(page);
  }
}
BENCHMARK(AppelLi2<HandlerByHand, CloseByHand>)->Name("appel_li_2/by_hand");
BENCHMARK(AppelLi2<HandlerByDune, CloseByDune>)->Name("appel_li_2/libdune_asks");
BENCHMARK(AppelLi2<HandlerByDune, CloseByDune, Claimed>)->Name("appel_li_2/libdune");

// ---- Traps ----------------------------------------------------------------------------------------------------------

// To a handler and back: the instruction is stepped over.
void TrapByHand(benchmark::State& state) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int, siginfo_t*, void* context) {
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2;
  };
  sigaction(SIGILL, &action, &before);
  for (auto _ : state) asm volatile("ud2" ::: "memory");
  sigaction(SIGILL, &before, nullptr);
}
BENCHMARK(TrapByHand)->Name("trap/by_hand");

void TrapByDune(benchmark::State& state) {
  HandlerByDune::Check(dune::SetTrapHandler(6, [](dune::TrapFrame& frame) {
    frame.rip += 2;
    return Resolution::kResume;
  }));
  for (auto _ : state) asm volatile("ud2" ::: "memory");
  HandlerByDune::Check(dune::SetTrapHandler(6, nullptr));
}
BENCHMARK(TrapByDune)->Name("trap/libdune");

// ---- Dirty pages ----------------------------------------------------------------------------------------------------

constexpr std::size_t kTracked = (std::size_t{256} << 20) / kPageSize;
constexpr std::size_t kStride = 100;  // 1 % is written to

char written_by_hand[kTracked];
Pages* tracked_by_hand;

void DirtyByHand(benchmark::State& state) {
  Pages pages(kTracked);
  tracked_by_hand = &pages;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    const std::uintptr_t first = tracked_by_hand->range().begin;
    const std::size_t page = (reinterpret_cast<std::uintptr_t>(info->si_addr) - first) / kPageSize;
    written_by_hand[page] = 1;
    mprotect(tracked_by_hand->at(page), kPageSize, PROT_READ | PROT_WRITE);
  };
  sigaction(SIGSEGV, &action, &before);
  mprotect(pages.at(0), pages.range().size, PROT_READ);
  std::size_t told = 0;
  for (auto _ : state) {
    for (std::size_t page = 0; page < kTracked; page += kStride) pages.Write(page);
    for (char& is_written : written_by_hand) {
      told += is_written == 1 ? 1 : 0;
      is_written = 0;
    }
    mprotect(pages.at(0), pages.range().size, PROT_READ);
  }
  sigaction(SIGSEGV, &before, nullptr);
  tracked_by_hand = nullptr;
  state.counters["told"] = static_cast<double>(told) / static_cast<double>(state.iterations());
}
BENCHMARK(DirtyByHand)->Name("dirty_1_percent_of_256_MiB/by_hand")->Unit(benchmark::kMicrosecond);

void DirtyByDune(benchmark::State& state) {
  Pages pages(kTracked);
  PageTable& table = PageTable::Current();
  HandlerByDune::Check(table.Track(pages.range(), dune::Tracking::kDirty));
  std::size_t told = 0;
  for (auto _ : state) {
    for (std::size_t page = 0; page < kTracked; page += kStride) pages.Write(page);
    HandlerByDune::Check(table.TestAndClearDirty(
        pages.range(), [&](Range written) { told += written.size / kPageSize; }));
  }
  HandlerByDune::Check(table.Untrack(pages.range(), dune::Tracking::kDirty));
  state.counters["told"] = static_cast<double>(told) / static_cast<double>(state.iterations());
}
BENCHMARK(DirtyByDune)->Name("dirty_1_percent_of_256_MiB/libdune")->Unit(benchmark::kMicrosecond);

}  // namespace

int main(int argc, char** argv) {
  dune::EnterOptions options{.backend = dune::Wanted::kSoftware};
  if (argc > 1 && std::strcmp(argv[1], "--dirty=faults") == 0) {
    options.dirty_method = dune::DirtyMethod::kFaults;
  }
  HandlerByDune::Check(dune::Enter(options));
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
