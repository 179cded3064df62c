// What page tables of the program's own do when they are changed: whoever shares memory, tables or a large page with one, runs ring 3
// in it, or needs the frames that it takes. Run in the lab. Each subject is a process of its own, which enters ring 0 by itself; the
// last line is "ring 0 works" when all of them did.
//
//   dune_tables [SUBJECT...]
#include <elf.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "dune/dune.h"
#include "dune/page_table.h"
#include "dune/trap.h"
#include "dune/user.h"
#include "libdune/ring0_backend/entries.h"
#include "tests/libdune/ring0/expect.h"

// Ring 3's programs.
asm(R"(
        .pushsection .text
        .balign 4096
user_load:
        movq    (%rdi), %rsi
        movl    $1, %eax
        syscall
        .balign 64
user_store:
        movq    %rsi, (%rdi)
        movl    $1, %eax
        syscall
        .balign 64
user_count:
        incq    (%rdi)
        jmp     user_count
        .balign 64
user_add:
        addq    %rdi, %rbx
        movq    %rbx, 8(%rsp)
        movl    $1, %eax
        syscall
        jmp     user_add
        .balign 4096
        .popsection
)");
extern "C" const char user_load[], user_store[], user_count[], user_add[];

namespace {

using dune::kLargePageSize;
using dune::kPageSize;
using dune::Mapping;
using dune::PageTable;
using dune::Range;
using dune::Rights;
using dune::StopReason;
using dune::Tracking;

constexpr std::size_t kFramePool = std::size_t{2} << 20;  // 512 frames: one that is lost or too many shows
constexpr std::size_t kPart = std::size_t{1} << 30;       // what Share's ranges are of
constexpr std::uintptr_t kCode = 0x400000, kHeap = 0x5000'0000, kStack = 0x7000'0000;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kNotFound = absl::StatusCode::kNotFound;
constexpr auto kRefused = absl::StatusCode::kFailedPrecondition;

char* Pages(std::size_t bytes, int rights = PROT_READ | PROT_WRITE) {
  void* const memory = mmap(nullptr, bytes, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  Expect(memory != MAP_FAILED, "mmap");
  return static_cast<char*>(memory);
}
char* LargePages(std::size_t count) {
  const auto memory = reinterpret_cast<std::uintptr_t>(Pages((count + 1) * kLargePageSize));
  return reinterpret_cast<char*>((memory + kLargePageSize - 1) & ~(kLargePageSize - 1));
}
std::uintptr_t Address(const void* at) { return reinterpret_cast<std::uintptr_t>(at); }

PageTable MakeTable() {
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kEmpty);
  Expect(table.ok(), "an empty table");
  Expect(table->Map({kCode, kPageSize}, user_load, {.rights = Rights::kReadExecute}).ok(), "code");
  return *std::move(table);
}
PageTable CloneOf(const PageTable& table, PageTable::Sharing sharing) {
  absl::StatusOr<PageTable> clone = table.Clone(sharing);
  Expect(clone.ok(), "Clone");
  return *std::move(clone);
}

dune::UserContext At(const char* label, std::uintptr_t address, std::uint64_t value = 0) {
  dune::UserContext context;
  context.rip = kCode + static_cast<std::uintptr_t>(label - user_load);
  context.rdi = address;
  context.rsi = value;
  return context;
}
dune::Stop Run(dune::UserContext& context, PageTable& table) {
  const absl::StatusOr<dune::Stop> stop = dune::RunUser(context, table);
  Expect(stop.ok(), std::string(stop.status().message()).c_str());
  return *stop;
}
// What ring 3 reads there; nothing: a fault.
std::optional<std::uint64_t> Loads(PageTable& table, std::uintptr_t address) {
  dune::UserContext context = At(user_load, address);
  if (Run(context, table).reason != StopReason::kSystemCall) return std::nullopt;
  return context.rsi;
}
bool Stores(PageTable& table, std::uintptr_t address, std::uint64_t value) {
  dune::UserContext context = At(user_store, address, value);
  return Run(context, table).reason == StopReason::kSystemCall;
}
char ByteAt(PageTable& table, std::uintptr_t address) {
  char value = 0;
  Expect(dune::CopyFromUser(table, &value, address, 1).ok(), "CopyFromUser");
  return value;
}
bool Puts(PageTable& table, std::uintptr_t address, char value) {
  return dune::CopyToUser(table, address, &value, 1).ok();
}

// Ring 3 in another thread, until it is told to stop or faults.
class InRing3 {
 public:
  InRing3(PageTable& table, const dune::UserContext& context)
      : thread_([this, &table, mine = context]() mutable {
          while (!stop_) {
            const absl::StatusOr<dune::Stop> stopped = dune::RunUser(mine, table, {.time = absl::Milliseconds(5)});
            Expect(stopped.ok(), "RunUser");
            if (stopped->reason != StopReason::kFault) continue;
            fault_ = *stopped;
            break;
          }
        }) {}
  ~InRing3() { Join(); }
  InRing3(const InRing3&) = delete;
  InRing3& operator=(const InRing3&) = delete;

  void Join() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  dune::Stop Fault() {
    thread_.join();
    return fault_;
  }

 private:
  std::atomic<bool> stop_{false};
  dune::Stop fault_{};
  std::thread thread_;
};

void WaitForMore(const volatile std::uint64_t& count) {
  const std::uint64_t before = count;
  while (count == before) {
  }
}
bool StaysAsItIs(const volatile std::uint64_t& count) {
  const std::uint64_t before = count;
  for (int wait = 0; wait < 20'000; ++wait) asm volatile("");
  return count == before;
}

// ---- copies to ring 3

void CopiesToUser() {
  char* const memory = Pages(2 * kPageSize);
  memory[0] = 1, memory[kPageSize] = 2;
  PageTable origin = MakeTable();
  Expect(origin.Map({kHeap, 2 * kPageSize}, memory, {}).ok(), "Map");
  PageTable one = CloneOf(origin, PageTable::Sharing::kTemplate), other = CloneOf(origin, PageTable::Sharing::kTemplate);
  Expect(Puts(one, kHeap, 5) && ByteAt(one, kHeap) == 5, "a clone of a template has what was copied to it");
  Expect(memory[0] == 1 && ByteAt(other, kHeap) == 1, "and nobody else has");
  // Over an edge: the tables are its own from the first page on.
  const std::string text = "over the edge";
  Expect(dune::CopyToUser(other, kHeap + kPageSize - 4, text.data(), text.size()).ok(), "CopyToUser");
  std::string back(text.size(), ' ');
  Expect(dune::CopyFromUser(other, back.data(), kHeap + kPageSize - 4, back.size()).ok() && back == text, "CopyFromUser");
  Expect(memory[kPageSize - 4] == 0 && memory[kPageSize] == 2, "the process's memory is as it was");

  char* const large = LargePages(2);
  large[kLargePageSize + 5] = 3;
  PageTable wide = MakeTable();
  Expect(wide.Map({kHeap, 2 * kLargePageSize}, large, {.page_size = dune::PageSize::k2MiB}).ok(), "2 MiB");
  PageTable copy = CloneOf(wide, PageTable::Sharing::kCopyOnWrite);
  for (PageTable* const writer : {&copy, &wide}) {
    for (const std::size_t offset : {std::size_t{5}, std::size_t{300} * kPageSize, kLargePageSize - 1}) {
      const std::uintptr_t at = kHeap + kLargePageSize + offset;
      Expect(Puts(*writer, at, 7) && ByteAt(*writer, at) == 7, "what was copied to a part of a large page");
      Expect(writer->Walk(at)->page.size == kPageSize && writer->Walk(at)->rights == Rights::kReadWrite, "is a page's");
    }
    Expect(large[kLargePageSize + 5] == 3 && large[kLargePageSize + 300 * kPageSize] == 0, "and not the process's");
    Expect(ByteAt(*writer, kHeap + kLargePageSize + 6 * kPageSize) == 0 && Stores(*writer, kHeap + kLargePageSize + 6 * kPageSize, 1),
           "the tables are tables");
  }
}

// ---- frames

void WriteProgramOf(const std::string& path, std::uint64_t bytes) {
  struct {
    Elf64_Ehdr elf{};
    Elf64_Phdr header{};
  } file;
  std::memcpy(file.elf.e_ident, ELFMAG, SELFMAG);
  file.elf.e_ident[EI_CLASS] = ELFCLASS64, file.elf.e_ident[EI_DATA] = ELFDATA2LSB;
  file.elf.e_type = ET_EXEC, file.elf.e_machine = EM_X86_64;
  file.elf.e_phoff = sizeof(Elf64_Ehdr), file.elf.e_phentsize = sizeof(Elf64_Phdr), file.elf.e_phnum = 1;
  file.elf.e_entry = kCode;
  file.header = {.p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_offset = 0, .p_vaddr = kCode, .p_paddr = 0,
                 .p_filesz = sizeof(file), .p_memsz = bytes, .p_align = kPageSize};
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(&file), sizeof(file));
}

// Ring 3 that uses up all there is has what it asks for refused; the process goes on, with memory that it has not used before.
void FramesForTheProcess() {
  constexpr std::size_t kMany = 2 * kFramePool;
  char* const memory = Pages(kMany);
  volatile char* const fresh = Pages(80 * kLargePageSize);
  // A file that says it wants more than there is.
  const std::string path = "/tmp/dune_tables." + std::to_string(getpid());
  WriteProgramOf(path, std::uint64_t{200} << 20);
  for (int round = 0; round < 3; ++round) {
    Expect(dune::LoadProgram(path, {}, {}).status().code() == kExhausted, "LoadProgram");
    for (int part = 0; part < 3; ++part) fresh[static_cast<std::size_t>(round * 3 + part) * kLargePageSize] = 1;
  }
  WriteProgramOf(path, std::uint64_t{64} << 10);
  Expect(dune::LoadProgram(path, {}, {}).ok(), "a smaller one, with the frames that came back");
  unlink(path.c_str());

  PageTable table = MakeTable();
  Expect(table.Map({kHeap, kMany}, memory, {.copy_on_write = true}).ok(), "Map");
  std::size_t copied = 0;
  while (copied < kMany && Puts(table, kHeap + copied, 1)) copied += kPageSize;
  Expect(copied > kFramePool / 2 && copied < kFramePool, "most of the pool is to be had, and not all");
  dune::UserContext context = At(user_store, kHeap + copied, 1);
  Expect(dune::RunUser(context, table).status().code() == kExhausted, "ring 3's own store is refused so");
  Expect(PageTable::Create(PageTable::Contents::kEmpty).status().code() == kExhausted, "no table");
  Expect(table.Clone(PageTable::Sharing::kCopyOnWrite).status().code() == kExhausted, "nor a clone");
  for (std::size_t part = 10; part < 80; ++part) fresh[part * kLargePageSize] = 1;
  std::thread([] {}).join();
  std::string text(std::size_t{5} << 20, 'x');
  Expect(text[text.size() - 1] == 'x' && fresh[0] == 1, "the process goes on");
}

// ---- what is replaced

// A frame that is no page of ring 3's any more is nobody's until every processor was made to forget it, which is when the library
// writes to its flush page: that is a page fault here.
struct AtFlush {
  std::uint64_t frame = 0;
  std::atomic<int> count{0};
  std::atomic<std::uint32_t> references{0};  // to the frame, then
} at_flush;

dune::Resolution OnFlush(dune::PageFault& fault) {
  namespace ring0 = dune::ring0;
  const Range page{Address(ring0::vm.flush_page), kPageSize};
  if (fault.address - page.begin >= page.size) return dune::Resolution::kPass;
  if (at_flush.frame != 0) at_flush.references = ring0::ReferencesOf(at_flush.frame);
  ++at_flush.count;
  return PageTable::Current().Protect(page, Rights::kAll).ok() ? dune::Resolution::kResume : dune::Resolution::kPass;
}

// The status of change(), which has to flush, and to keep the frame until then.
template <typename Change>
absl::StatusCode Flushes(std::uint64_t frame, Change change) {
  namespace ring0 = dune::ring0;
  at_flush.frame = frame, at_flush.count = 0, at_flush.references = 0;
  // As Protect would, which flushes by itself.
  ring0::Entry* const entry = ring0::FindEntry(ring0::vm.root, Address(ring0::vm.flush_page), 1);
  entry->store(ring0::WithRights(entry->load() | ring0::bits::kLimited | ring0::bits::kMayRead));
  asm volatile("invlpg (%0)" : : "r"(ring0::vm.flush_page) : "memory");
  const absl::StatusCode code = change().code();
  Expect(at_flush.count > 0, "it is flushed");
  Expect(frame == 0 || at_flush.references == 1, "before the frame is given back");
  return code;
}

void ReplacedPages() {
  namespace ring0 = dune::ring0;
  char* const memory = LargePages(2);
  memory[0] = 1;
  char* const hole = Pages(2 * kPageSize);
  Expect(munmap(hole + kPageSize, kPageSize) == 0, "munmap");
  Expect(dune::SetPageFaultHandler(OnFlush).ok(), "a handler");
  // Somebody whose processor remembers it.
  PageTable other = MakeTable();
  Expect(other.Map({kHeap, kPageSize}, memory, {.copy_on_write = true}).ok(), "Map");
  InRing3 counting(other, At(user_count, kHeap));

  const Range page{kHeap, kPageSize}, large{kHeap, kLargePageSize};
  PageTable table = MakeTable(), lender = MakeTable();
  const auto copied = [&] {
    Expect(table.Map(page, memory, {.copy_on_write = true}).ok() && Puts(table, kHeap, 2), "a page of the pool");
    return ring0::FindEntry(table.root(), kHeap, 1)->load() & ring0::bits::kFrame;
  };
  using enum absl::StatusCode;
  Expect(Flushes(copied(), [&] { return table.Map(page, memory, {}); }) == kOk, "Map");
  Expect(Flushes(copied(), [&] { return table.Unmap(page); }) == kOk, "Unmap");
  Expect(Flushes(copied(), [&] { return table.Map(large, memory, {.page_size = dune::PageSize::k2MiB}); }) == kOk, "a large page");
  Expect(table.Unmap(large).ok(), "Unmap");
  Expect(Flushes(copied(), [&] { return table.Share({kPart, kPart}, lender); }) == kOk, "Share");
  // What fails half-way has changed something, too.
  Expect(Flushes(copied(), [&] { return table.Map({kHeap, 2 * kPageSize}, hole, {}); }) == kNotFound, "Map with a hole");
  Expect(table.Map(page, memory, {}).ok(), "Map");
  const std::uintptr_t needed = ring0::vm.threads[0]->state->handler_low;
  Expect(Flushes(0, [&] { return PageTable::Current().Protect({needed - kPageSize, 2 * kPageSize}, Rights::kRead); }) == kInvalid,
         "Protect with a page that is not to be changed");
  Expect(dune::SetPageFaultHandler(nullptr).ok(), "no handler");
}

// ---- rights that the process has not

void RightsOfTheProcess() {
  char* const read_only = Pages(kPageSize, PROT_READ);
  PageTable table = MakeTable();
  constexpr auto kDenied = absl::StatusCode::kPermissionDenied;
  const Range page{kHeap, kPageSize};
  for (int round = 0; round < 2; ++round) {  // before ring 0 has used the page, and after
    Expect(table.Map(page, read_only, {}).code() == kDenied, "memory that is not the process's to write");
    Expect(!table.Walk(kHeap).ok(), "is not mapped");
    static_cast<void>(*const_cast<volatile char*>(read_only));
  }
  Expect(table.Map(page, read_only, {.rights = Rights::kRead}).ok() && Loads(table, kHeap) == 0, "it may be read");
  Expect(table.Protect(page, Rights::kReadWrite).code() == kDenied, "nor does Protect give more");
  Expect(!Stores(table, kHeap, 1), "ring 3's store is a fault");
  Expect(table.Map(page, read_only, {.copy_on_write = true}).ok() && Stores(table, kHeap, 4) && Loads(table, kHeap) == 4 &&
             *read_only == 0,
         "a copy is");
  char* const none = Pages(kPageSize, PROT_NONE);
  Expect(table.Map(page, none, {.rights = Rights::kRead}).code() == kNotFound, "memory without rights");

  // What the process takes away afterwards is a fault of ring 3's, and not the end.
  char* const memory = Pages(2 * kPageSize);
  memory[0] = 2, memory[kPageSize] = 3;
  Expect(table.Map({kHeap, 2 * kPageSize}, memory, {}).ok() && Stores(table, kHeap, 5), "Map");
  Expect(mprotect(memory, kPageSize, PROT_READ) == 0 && munmap(memory + kPageSize, kPageSize) == 0, "mprotect and munmap");
  for (int round = 0; round < 3; ++round) {
    dune::UserContext store = At(user_store, kHeap, 6), load = At(user_load, kHeap + kPageSize);
    dune::Stop stop = Run(store, table);
    Expect(stop.reason == StopReason::kFault && stop.vector == 14 && store.rip == At(user_store, 0).rip, "a store");
    stop = Run(load, table);
    Expect(stop.reason == StopReason::kFault && stop.vector == 14 && load.rip == At(user_load, 0).rip, "a load");
  }
  Expect(memory[0] == 5 && Loads(table, kHeap) == 5, "what is left is left");
}

// ---- large pages

void LargePagesOfATable() {
  char* const large = LargePages(3);
  large[5] = 1, large[kLargePageSize + 5] = 2;
  PageTable table = MakeTable();
  const auto part = [](std::size_t first, std::size_t count) { return Range{kHeap + first * kLargePageSize, count * kLargePageSize}; };
  const Range inside{kHeap + kLargePageSize + 8 * kPageSize, 4 * kPageSize};
  Expect(table.Map(part(0, 3), large, {.page_size = dune::PageSize::k2MiB}).ok(), "Map");
  Expect(table.Map(part(0, 1), large + kPageSize, {.page_size = dune::PageSize::k2MiB}).code() == kInvalid, "memory that is not aligned");

  // A part of one is refused, and nothing is changed before it or in it.
  const Range across{kHeap, kLargePageSize + 8 * kPageSize};
  for (const Range wrong : {inside, across}) {
    Expect(table.Unmap(wrong).code() == kInvalid && table.Protect(wrong, Rights::kRead).code() == kInvalid &&
               table.Track(wrong, Tracking::kDirty).code() == kInvalid &&
               table.Map(wrong, large, {}).code() == kInvalid,
           "a part of a large page");
    Expect(table.TestAndClearDirty(wrong, [](Range) { Expect(false, "told of a part"); }).code() == kInvalid, "nor is it told of");
  }
  int pages = 0;
  Expect(table.Visit(part(0, 3), [&](const Mapping& one) {
                Expect(one.page.size == kLargePageSize && one.rights == Rights::kReadWrite, "it is as it was");
                ++pages;
              }).ok() && pages == 3,
         "Visit");

  Expect(table.Protect(part(1, 1), Rights::kRead).ok() && !Stores(table, kHeap + kLargePageSize, 1) &&
             Loads(table, kHeap + kLargePageSize).has_value() && Stores(table, kHeap, 1) && Stores(table, kHeap + 2 * kLargePageSize, 1),
         "Protect");
  Expect(table.Protect(part(1, 1), Rights::kNone).ok() && !Loads(table, kHeap + kLargePageSize) &&
             table.Walk(kHeap + kLargePageSize)->rights == Rights::kNone,
         "no rights");
  Expect(table.Protect(part(0, 3), Rights::kReadWrite).ok() && ByteAt(table, kHeap + kLargePageSize + 5) == 2 &&
             Stores(table, kHeap + kLargePageSize, 1),
         "and all of them");

  Expect(table.Track(part(0, 3), Tracking::kDirty).ok() && table.Track(part(0, 3), Tracking::kAccessed).ok(), "Track");
  std::vector<Range> told;
  const auto note = [&](Range one) { told.push_back(one); };
  Expect(table.TestAndClearDirty(part(0, 3), note).ok() && told.empty(), "clean to begin with");
  Expect(Stores(table, kHeap + kLargePageSize + 77 * kPageSize, 1) && Loads(table, kHeap).has_value(), "ring 3");
  Expect(table.TestAndClearDirty(part(0, 3), note).ok() && told == std::vector<Range>{part(1, 1)}, "what was written to");
  told.clear();
  Expect(table.TestAndClearAccessed(part(0, 3), note).ok() && told == std::vector<Range>{part(0, 2)}, "what was used");
  told.clear();
  Expect(table.TestAndClearDirty(part(0, 3), note).ok() && told.empty(), "and only once");

  // Small pages over a large one, and back.
  large[5] = 1, large[kLargePageSize + 5] = 2;
  Expect(table.Map(part(1, 1), large, {.rights = Rights::kRead}).ok() && table.Walk(kHeap + kLargePageSize)->page.size == kPageSize &&
             ByteAt(table, kHeap + kLargePageSize + 5) == 1,
         "small pages");
  Expect(table.Map(part(1, 1), large + kLargePageSize, {.page_size = dune::PageSize::k2MiB}).ok() &&
             table.Walk(kHeap + kLargePageSize)->page.size == kLargePageSize && ByteAt(table, kHeap + kLargePageSize + 5) == 2,
         "a large one");
  Expect(table.Unmap(part(1, 1)).ok() && !Loads(table, kHeap + kLargePageSize) && Loads(table, kHeap).has_value() &&
             Loads(table, kHeap + 2 * kLargePageSize).has_value(),
         "Unmap");
  // None of the tables between is lost: the pool has 512.
  for (int round = 0; round < 600; ++round) {
    Expect(table.Map(part(1, 1), large, {.page_size = dune::PageSize::k2MiB, .copy_on_write = true}).ok() &&
               Puts(table, kHeap + kLargePageSize, 1) && table.Unmap(part(1, 1)).ok(),
           "no frame is lost");
  }
}

// ---- clones with the same memory

void ClonesThatShare() {
  char* const memory = Pages(2 * kPageSize);
  char* const large = LargePages(1);
  memory[0] = 1, large[0] = 3;
  auto table = std::make_unique<PageTable>(MakeTable());
  Expect(table->Map({kHeap, 2 * kPageSize}, memory, {}).ok() &&
             table->Map({2 * kHeap, kLargePageSize}, large, {.page_size = dune::PageSize::k2MiB}).ok() &&
             table->Map({3 * kHeap, kPageSize}, memory, {.copy_on_write = true}).ok() && Puts(*table, 3 * kHeap, 8),
         "Map");
  PageTable clone = CloneOf(*table, PageTable::Sharing::kShare);
  Expect(!clone.Walk(kHeap)->copy_on_write && clone.Walk(kHeap)->memory == Address(memory) &&
             clone.Walk(2 * kHeap)->page.size == kLargePageSize,
         "the same memory");
  Expect(Stores(clone, kHeap, 5) && Loads(*table, kHeap) == 5 && memory[0] == 5, "a store of either");
  Expect(Stores(*table, kHeap, 6) && Loads(clone, kHeap) == 6 && Puts(clone, 2 * kHeap, 7) && large[0] == 7 &&
             ByteAt(*table, 2 * kHeap) == 7,
         "is both's");
  Expect(Stores(clone, 3 * kHeap, 9) && Loads(*table, 3 * kHeap) == 9 && memory[0] == 6, "a page of the table's own, too");
  // The mappings are each one's own from then on.
  Expect(clone.Unmap({kHeap, kPageSize}).ok() && !clone.Walk(kHeap).ok() && Loads(*table, kHeap) == 6, "Unmap");
  Expect(table->Protect({kHeap + kPageSize, kPageSize}, Rights::kRead).ok() && Stores(clone, kHeap + kPageSize, 2) &&
             !Stores(*table, kHeap + kPageSize, 3),
         "Protect");
  table.reset();
  for (int round = 0; round < 20; ++round) {
    PageTable other = MakeTable();
    Expect(other.Map({kHeap, kPageSize}, memory, {.copy_on_write = true}).ok() && Puts(other, kHeap, 1), "another table");
  }
  Expect(Loads(clone, 3 * kHeap) == 9 && Stores(clone, 3 * kHeap, 4) && Loads(clone, 3 * kHeap) == 4, "it outlives the first");
}

// ---- tables that two have

constexpr Range kShared{kPart, kPart};  // kHeap is in it

void SharedTables() {
  char* const memory = Pages(4 * kPageSize);
  for (char page = 0; page < 4; ++page) memory[page * kPageSize] = page;
  auto other = std::make_unique<PageTable>(MakeTable());
  PageTable table = MakeTable();
  const auto page = [](std::uintptr_t number) { return Range{kHeap + number * kPageSize, kPageSize}; };
  const auto from = [&](std::size_t number) { return memory + number * kPageSize; };
  Expect(other->Map(page(0), from(0), {}).ok(), "Map");
  Expect(table.Share(kShared, table).code() == kInvalid, "a table has its own already");
  Expect(table.Share({kPart, kPageSize}, *other).code() == kInvalid, "parts are of 1 GiB");
  Expect(table.Map(page(3), from(3), {.copy_on_write = true}).ok() && Puts(table, page(3).begin, 9), "what was there before");
  Expect(table.Share(kShared, *other).ok() && table.Share(kShared, *other).ok(), "Share, and again");
  Expect(!table.Walk(page(3).begin).ok() && Loads(table, page(0).begin) == 0, "is gone, and the other's is there");
  // From here on a change by either is both's.
  Expect(other->Map(page(1), from(1), {}).ok() && Loads(table, page(1).begin) == 1, "mapped by the other");
  Expect(table.Map(page(2), from(2), {}).ok() && Loads(*other, page(2).begin) == 2, "mapped by this");
  Expect(table.Protect(page(1), Rights::kRead).ok() && !Stores(*other, page(1).begin, 5), "Protect");
  Expect(table.Unmap(page(0)).ok() && !Loads(*other, page(0).begin), "Unmap");
  Expect(other->Unmap(page(1)).ok() && !Loads(table, page(1).begin), "of either");
  Expect(table.Map(page(3), from(3), {.copy_on_write = true}).ok() && Stores(*other, page(3).begin, 7) &&
             Loads(table, page(3).begin) == 7 && memory[3 * kPageSize] == 3,
         "a copy is both's");
  Expect(other->Track(page(3), Tracking::kDirty).ok() && Stores(table, page(3).begin, 8), "Track");
  int written = 0;
  Expect(other->TestAndClearDirty(page(3), [&](Range) { ++written; }).ok() && written == 1, "what ring 3 of the one writes");
  Expect(other->Clone(PageTable::Sharing::kTemplate).status().code() == kRefused &&
             table.Clone(PageTable::Sharing::kTemplate).status().code() == kRefused,
         "a template has tables of its own");
  // A third, by the second; and each the other's, in another part.
  PageTable third = MakeTable();
  constexpr Range kElsewhere{8 * kPart, kPart};
  Expect(third.Share(kShared, table).ok() && other->Share(kElsewhere, table).ok() && table.Share(kElsewhere, *other).ok() &&
             third.Share(kElsewhere, table).ok(),
         "Share");
  Expect(third.Map({kElsewhere.begin, kPageSize}, from(1), {}).ok() && Loads(*other, kElsewhere.begin) == 1, "a third's");
  // Whoever is gone, what was shared is there.
  other.reset();
  const auto churn = [&] {
    for (int round = 0; round < 40; ++round) {
      PageTable one = MakeTable();
      Expect(one.Map({kHeap, 2 * kPageSize}, memory, {.copy_on_write = true}).ok() && Puts(one, kHeap, 1) &&
                 Puts(one, kHeap + kPageSize, 1),
             "tables in the frames of what is gone");
    }
  };
  churn();
  Expect(Loads(table, page(3).begin) == 8 && Loads(third, page(3).begin) == 8 && Loads(third, page(2).begin) == 2 &&
             Stores(table, page(3).begin, 4) && Loads(third, page(3).begin) == 4 && Loads(table, kElsewhere.begin) == 1,
         "without the first");
  PageTable copy = CloneOf(table, PageTable::Sharing::kCopyOnWrite);
  Expect(Stores(table, page(3).begin, 6) && Loads(third, page(3).begin) == 6 && Loads(copy, page(3).begin) == 4, "a clone has its own");
  Expect(table.Share(kShared, copy).ok() && Loads(table, page(3).begin) == 4 && Loads(third, page(3).begin) == 6, "Share with another");
  { const PageTable gone = std::move(table); }
  churn();
  Expect(Loads(third, page(3).begin) == 6 && Loads(third, page(2).begin) == 2 && Loads(third, kElsewhere.begin) == 1, "with the last");
  // No frame is lost: the pool has 512.
  for (int round = 0; round < 300; ++round) {
    PageTable one = MakeTable(), two = MakeTable();
    Expect(one.Map(page(0), memory, {.copy_on_write = true}).ok() && Puts(one, page(0).begin, 1) && two.Share(kShared, one).ok(), "a pair");
    if (round % 2 == 0) Expect(one.Share(kElsewhere, two).ok() && two.Share(kElsewhere, one).ok(), "each the other's");
  }
}

// Nobody else's tables are changed by what two share.
void SharedWithClones() {
  char* const memory = Pages(4 * kPageSize);
  memory[0] = 1, memory[kPageSize] = 2;
  auto origin = std::make_unique<PageTable>(MakeTable());
  Expect(origin->Map({kHeap, 2 * kPageSize}, memory, {}).ok(), "Map");
  auto one = std::make_unique<PageTable>(CloneOf(*origin, PageTable::Sharing::kTemplate));
  PageTable other = CloneOf(*origin, PageTable::Sharing::kTemplate);
  PageTable table = MakeTable();
  Expect(table.Share(kShared, *origin).code() == kRefused, "a template's tables are nobody's to change");
  Expect(table.Share(kShared, *one).ok() && ByteAt(table, kHeap) == 1, "those of a clone");
  Expect(table.Unmap({kHeap, kPageSize}).ok() && !one->Walk(kHeap).ok() && other.Walk(kHeap).ok() && origin->Walk(kHeap).ok(), "Unmap");
  Expect(Stores(table, kHeap + kPageSize, 8) && ByteAt(*one, kHeap + kPageSize) == 8 && ByteAt(other, kHeap + kPageSize) == 2 &&
             memory[kPageSize] == 2,
         "a store");
  Expect(table.Map({kHeap + 2 * kPageSize, kPageSize}, memory, {}).ok() && one->Walk(kHeap + 2 * kPageSize).ok() &&
             !other.Walk(kHeap + 2 * kPageSize).ok() && !origin->Walk(kHeap + 2 * kPageSize).ok(),
         "Map");
  const PageTable late = CloneOf(*origin, PageTable::Sharing::kTemplate);
  Expect(late.Walk(kHeap).ok() && !late.Walk(kHeap + 2 * kPageSize).ok(), "one made later is as the template was");
  one.reset();
  origin.reset();
  { const PageTable gone = std::move(other); }
  for (int round = 0; round < 40; ++round) MakeTable();
  Expect(ByteAt(table, kHeap + kPageSize) == 8 && ByteAt(table, kHeap + 2 * kPageSize) == 1, "without the clone");
}

// The process's own tables are not to be changed by way of another table either.
void SharedWithTheProcess() {
  volatile char* const memory = Pages(2 * kPageSize);
  memory[0] = 1;
  const std::uintptr_t at = Address(const_cast<char*>(memory));
  const Range part{at & ~(kPart - 1), kPart};
  absl::StatusOr<PageTable> process = PageTable::Create(PageTable::Contents::kProcess);
  Expect(process.ok(), "a table with the process");
  for (PageTable* const other : {&PageTable::Current(), &*process}) {
    PageTable table = MakeTable();
    Expect(table.Share(part, *other).ok() && table.Walk(at)->memory == at, "Share");
    Expect(!Loads(table, at), "it is ring 0's alone");
    Expect(table.Unmap({at, kPageSize}).ok() && !table.Walk(at).ok(), "Unmap");
    Expect(PageTable::Current().Walk(at).ok() && process->Walk(at).ok() && memory[0] == 1, "is the table's alone");
    Expect(table.Map({at, kPageSize}, const_cast<char*>(memory) + kPageSize, {}).ok() && Stores(table, at, 7) && memory[0] == 1 &&
               memory[kPageSize] == 7,
           "and so is Map");
  }
}

// ---- tables that have the process's

void ClonesWithTheProcess() {
  volatile char* const memory = Pages(4 * kPageSize);
  char* const mine = Pages(kPageSize);
  memory[0] = 1, mine[0] = 5;
  const std::uintptr_t at = Address(const_cast<char*>(memory));
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kProcess);
  Expect(table.ok(), "a table with the process");
  // In the middle of the process's addresses, so that tables there are its own.
  const std::uintptr_t alias = at + kPageSize;
  Expect(table->Map({alias, kPageSize}, mine, {.ring = dune::Ring::kSupervisor}).ok(), "an alias");
  absl::StatusOr<PageTable> clone = table->Clone(PageTable::Sharing::kCopyOnWrite);
  Expect(clone.ok(), "Clone");
  Expect(!PageTable::Current().Walk(at)->copy_on_write && clone->Walk(alias)->copy_on_write, "the process's stays the process's");
  Expect(clone->Activate().ok(), "Activate");
  memory[0] = 2;
  memory[kPageSize] = 9;  // the alias
  memory[3 * kPageSize] = 4;
  std::thread([&] { memory[2 * kPageSize] = 3; }).join();
  const std::string text(std::size_t{3} << 20, 'y');
  Expect(PageTable::Current().Activate().ok(), "back");
  Expect(memory[0] == 2 && memory[2 * kPageSize] == 3 && memory[3 * kPageSize] == 4 && text[5] == 'y', "in both tables");
  Expect(mine[0] == 5 && memory[kPageSize] == 0, "but for what the clone copies");
  Expect(clone->Clone(PageTable::Sharing::kTemplate).status().code() == kRefused, "no template has the process's");
}

// Memory that the process begins to use while such a table is active, in a part that the table has tables of its own for.
void NewMemoryWhileActive() {
  char* const mine = Pages(kPageSize);
  mine[0] = 5;
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kProcess);
  Expect(table.ok(), "a table with the process");
  volatile char* const fresh = Pages(4 * kPart);
  const std::uintptr_t at = Address(const_cast<char*>(fresh));
  Expect(table->Map({at, kPageSize}, mine, {.ring = dune::Ring::kSupervisor}).ok() && table->Activate().ok(), "Activate");
  Expect(fresh[0] == 5, "the alias");
  for (std::size_t offset = kPageSize; offset < 4 * kPart; offset += kPart / 3) fresh[offset] = 7;
  std::thread([&] { fresh[2 * kPageSize] = 8; }).join();
  Expect(PageTable::Current().Activate().ok(), "back");
  Expect(fresh[kPageSize] == 7 && fresh[2 * kPageSize] == 8 && fresh[0] == 0, "is the process's");
}

sigjmp_buf faulted;
void JumpOut(int) { siglongjmp(faulted, 1); }

// Whether ring 0's own access is a SIGSEGV.
bool Refused(volatile char* at, dune::Access access) {
  if (sigsetjmp(faulted, 1) != 0) return true;
  if (access == dune::Access::kWrite) {
    *at = 1;
  } else {
    static_cast<void>(*at);
  }
  return false;
}

PageTable* active_table;
// The compiler does not know that a store may call a handler.
volatile int handled;
dune::Resolution GiveRights(dune::PageFault& fault) {
  handled = handled + 1;
  const Range page{fault.address & ~(kPageSize - 1), kPageSize};
  return active_table->Protect(page, Rights::kReadWrite).ok() ? dune::Resolution::kResume : dune::Resolution::kPass;
}

// Of an active table with the process's its own rights hold, beside it those of the process, as they are now.
void RightsWhileActive() {
  constexpr auto kRead = dune::Access::kRead, kWrite = dune::Access::kWrite;
  signal(SIGSEGV, JumpOut);
  char* const memory = LargePages(1);
  const auto page = [memory](std::size_t number) { return memory + number * kPageSize; };
  for (std::size_t number = 0; number < 6; ++number) *page(number) = 1;
  Expect(mprotect(page(2), kPageSize, PROT_READ) == 0 && *page(2) == 1, "mprotect");
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kProcess);
  Expect(table.ok(), "a table with the process");
  Expect(table->Protect({Address(page(2)), kPageSize}, Rights::kReadWrite).code() == absl::StatusCode::kPermissionDenied,
         "no more than the process has");
  Expect(table->Protect({Address(page(0)), kPageSize}, Rights::kRead).ok() && table->Activate().ok(), "Activate");
  Expect(!Refused(page(0), kRead) && Refused(page(0), kWrite), "rights of the table's own");
  active_table = &*table;
  Expect(dune::SetPageFaultHandler(GiveRights).ok() && !Refused(page(0), kWrite) && handled == 1, "are its handler's to change");
  Expect(dune::SetPageFaultHandler(nullptr).ok(), "no handler");

  Expect(mprotect(page(1), kPageSize, PROT_READ) == 0 && Refused(page(1), kWrite) && !Refused(page(1), kRead),
         "the process takes rights away");
  Expect(mprotect(page(1), kPageSize, PROT_READ | PROT_WRITE) == 0 && !Refused(page(1), kWrite), "and gives them back");
  Expect(mprotect(page(2), kPageSize, PROT_READ | PROT_WRITE) == 0 && !Refused(page(2), kWrite), "or more than there were");
  Expect(munmap(page(3), kPageSize) == 0 && Refused(page(3), kRead), "the process unmaps");
  Expect(mmap(page(3), kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page(3) &&
             !Refused(page(3), kWrite),
         "and maps anew");
  Expect(table->Unmap({Address(page(4)), kPageSize}).ok() && Refused(page(4), kRead), "what the table has unmapped");
  PageTable clone = CloneOf(*table, PageTable::Sharing::kShare);
  Expect(clone.Activate().ok() && Refused(page(4), kRead) && !Refused(page(1), kWrite), "is not there in a clone");
  char* const fresh = Pages(kPageSize);
  Expect(!Refused(fresh, kWrite), "but what the process has got since is");
  Expect(PageTable::Current().Activate().ok() && !Refused(page(4), kRead), "and it is there in Current()");
}

// A table that was empty has what was mapped there, and nothing else of the process's.
void EmptyTableWhileActive() {
  signal(SIGSEGV, JumpOut);
  void* const wanted = reinterpret_cast<void*>(0x2000'0000'0000);
  auto* const far = static_cast<char*>(mmap(wanted, kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  Expect(far == wanted, "mmap");
  *far = 1;
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kEmpty);
  Expect(table.ok(), "an empty table");
  const std::uintptr_t here = Address(__builtin_frame_address(0));
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0, end = 0;
    char rights[5] = {};
    Expect(std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, rights) == 3, "a line of /proc/self/maps");
    const bool is_kernels = line.find("[v") != std::string::npos;
    if (rights[0] != 'r' || is_kernels || begin == Address(far)) continue;
    if (begin <= here && here < end) begin = (here & ~(kPageSize - 1)) - 16 * kPageSize;  // the stack
    const Rights as = rights[1] == 'w' ? Rights::kReadWrite : rights[2] == 'x' ? Rights::kReadExecute : Rights::kRead;
    Expect(table->Map({begin, end - begin}, reinterpret_cast<void*>(begin), {.rights = as, .ring = dune::Ring::kSupervisor}).ok(),
           line.c_str());
  }
  Expect(table->Activate().ok(), "Activate");
  const bool refused = Refused(far, dune::Access::kRead) && Refused(far, dune::Access::kWrite);
  Expect(PageTable::Current().Activate().ok(), "back");
  Expect(refused && *far == 1, "what was not mapped there is not there");
}

std::atomic<bool> is_copying{false}, is_cloned{false};
char* held_source;
dune::Resolution WaitForTheClone(dune::PageFault& fault) {
  if ((fault.address & ~(kPageSize - 1)) != Address(held_source)) return dune::Resolution::kPass;
  is_copying = true;
  while (!is_cloned) __builtin_ia32_pause();
  const bool given = PageTable::Current().Protect({Address(held_source), kPageSize}, Rights::kAll).ok();
  return given ? dune::Resolution::kResume : dune::Resolution::kPass;
}

// What a clone has of a page stays so although another thread is in the middle of a copy to it.
void CopiesWhileCloned() {
  char* const source = Pages(2 * kPageSize);
  std::memset(source, 'n', 2 * kPageSize);
  char* const memory = Pages(kPageSize);
  std::memset(memory, 'o', kPageSize);
  PageTable table = MakeTable();
  Expect(table.Map({kHeap, kPageSize}, memory, {}).ok(), "Map");
  held_source = source + kPageSize;
  Expect(dune::SetPageFaultHandler(WaitForTheClone).ok() &&
             PageTable::Current().Protect({Address(held_source), kPageSize}, Rights::kNone).ok(),
         "a source that has to be waited for");
  std::thread copying(
      [&] { Expect(dune::CopyToUser(table, kHeap, source + kPageSize / 2, kPageSize).ok(), "CopyToUser"); });
  while (!is_copying) __builtin_ia32_pause();
  PageTable clone = CloneOf(table, PageTable::Sharing::kCopyOnWrite);
  std::string first(kPageSize, ' '), later(kPageSize, ' ');
  Expect(dune::CopyFromUser(clone, first.data(), kHeap, kPageSize).ok(), "CopyFromUser");
  is_cloned = true;
  copying.join();
  Expect(dune::CopyFromUser(clone, later.data(), kHeap, kPageSize).ok() && first == later, "the clone's own");
  Expect(ByteAt(table, kHeap) == 'n' && ByteAt(table, kHeap + kPageSize - 1) == 'n', "the other's");
}

// ---- changes that are seen at once

void FlushesByHand() {
  char* const memory = Pages(2 * kPageSize);
  memory[0] = 'a', memory[kPageSize] = 'b';
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kProcess);
  Expect(table.ok(), "a table with the process");
  constexpr std::uintptr_t kAlias = 0x1000'0000'0000;
  Expect(table->Map({kAlias, 2 * kPageSize}, memory, {.ring = dune::Ring::kSupervisor}).ok(), "Map");
  dune::ring0::Entry* const entries = dune::ring0::FindEntry(table->root(), kAlias, 1);
  const volatile char& seen = *reinterpret_cast<const volatile char*>(kAlias);
  std::atomic<int> asked{0}, answered{0};
  std::atomic<char> answer{0};
  std::thread other([&] {
    Expect(table->Activate().ok(), "Activate");
    for (int last = 0; last >= 0;) {
      // All the time, so that the processor remembers it.
      const char now = seen;
      if (asked == last) continue;
      last = asked;
      answer = last < 0 ? now : seen;
      answered = last;
    }
    Expect(PageTable::Current().Activate().ok(), "back");
  });
  Expect(table->Activate().ok(), "Activate");
  for (int round = 1; round <= 200; ++round) {
    const char wanted = round % 2 == 0 ? 'a' : 'b';
    Expect(seen != wanted, "before");
    for (int wait = 0; wait < 500; ++wait) asm volatile("");
    const std::uint64_t word = entries[0].load();
    entries[0].store(entries[1].load());
    entries[1].store(word);
    table->Flush({kAlias, kPageSize});
    Expect(seen == wanted, "this thread's");
    asked = round;
    while (answered != round) {
    }
    Expect(answer == wanted, "the other thread's");
  }
  asked = -1;
  other.join();
  Expect(PageTable::Current().Activate().ok(), "back");
}

void ChangesUnderRing3() {
  char* const memory = Pages(2 * kPageSize);
  auto& count = *reinterpret_cast<volatile std::uint64_t*>(memory);
  auto& other_count = *reinterpret_cast<volatile std::uint64_t*>(memory + kPageSize);
  PageTable table = MakeTable();
  const Range page{kHeap, kPageSize};
  for (int round = 0; round < 20; ++round) {
    Expect(table.Map(page, memory, {}).ok(), "Map");
    InRing3 counting(table, At(user_count, kHeap));
    WaitForMore(count);
    Expect(table.Map(page, memory + kPageSize, {}).ok() && StaysAsItIs(count), "another page in its place");
    WaitForMore(other_count);
    const bool by_rights = round % 2 == 0;
    Expect((by_rights ? table.Protect(page, Rights::kRead) : table.Unmap(page)).ok() && StaysAsItIs(other_count), "taken away");
    const dune::Stop stop = counting.Fault();
    constexpr std::uint64_t kPresent = 1, kWrite = 2;
    Expect(stop.vector == 14 && stop.address == kHeap, "a fault there");
    Expect((stop.error & kPresent) == (by_rights ? kPresent : 0) && (!by_rights || (stop.error & kWrite) != 0), "and why");
    // What is told of as clean is written to again only after that.
    Expect(table.Map(page, memory, {}).ok() && table.Track(page, Tracking::kDirty).ok(), "Track");
    InRing3 again(table, At(user_count, kHeap));
    for (int harvest = 0; harvest < 20; ++harvest) {
      WaitForMore(count);
      int told = 0;
      Expect(table.TestAndClearDirty(page, [&](Range) { ++told; }).ok() && told == 1, "no write is lost");
    }
  }
}

void ThreadsInOneTable() {
  PageTable table = MakeTable();
  char* const stack = Pages(kPageSize);
  Expect(table.Map({kStack, kPageSize}, stack, {.copy_on_write = true}).ok(), "a stack");
  std::vector<std::thread> threads;
  for (std::uint64_t number = 0; number < 4; ++number) {
    threads.emplace_back([&, number] {
      dune::UserContext context = At(user_add, number);
      context.rsp = kStack + 64 + 512 * number;
      for (std::uint64_t round = 1; round <= 1000; ++round) {
        Expect(Run(context, table).reason == StopReason::kSystemCall && context.rbx == number * round, "its own registers");
        std::uint64_t pushed = 0;
        Expect(dune::CopyFromUser(table, &pushed, context.rsp + 8, 8).ok() && pushed == context.rbx, "and its own stack");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Expect(stack[64 + 512 + 8] == 0, "in a page that was copied once");
}

struct Subject {
  const char* name;
  void (*run)();
};
constexpr Subject kSubjects[] = {{"copies_to_user", CopiesToUser},
                                 {"frames_for_the_process", FramesForTheProcess},
                                 {"replaced_pages", ReplacedPages},
                                 {"rights_of_the_process", RightsOfTheProcess},
                                 {"large_pages", LargePagesOfATable},
                                 {"clones_that_share", ClonesThatShare},
                                 {"shared_tables", SharedTables},
                                 {"shared_with_clones", SharedWithClones},
                                 {"shared_with_the_process", SharedWithTheProcess},
                                 {"clones_with_the_process", ClonesWithTheProcess},
                                 {"new_memory_while_active", NewMemoryWhileActive},
                                 {"rights_while_active", RightsWhileActive},
                                 {"empty_table_while_active", EmptyTableWhileActive},
                                 {"copies_while_cloned", CopiesWhileCloned},
                                 {"flushes_by_hand", FlushesByHand},
                                 {"changes_under_ring3", ChangesUnderRing3},
                                 {"threads_in_one_table", ThreadsInOneTable}};

bool Works(const Subject& subject) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    EnterRing0({.frame_pool = kFramePool});
    subject.run();
    _exit(0);
  }
  int status = -1;
  const bool works = waitpid(child, &status, 0) == child && status == 0;
  std::printf("%s %s", works ? "ok" : "NOT", subject.name);
  std::printf(works ? "\n" : ": wait status 0x%x\n", static_cast<unsigned>(status));
  return works;
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  bool all_work = true;
  for (const Subject& subject : kSubjects) {
    const bool wanted = argc == 1 || std::any_of(argv + 1, argv + argc, [&](std::string_view name) { return name == subject.name; });
    if (wanted) all_work = Works(subject) && all_work;
  }
  if (all_work) std::puts("ring 0 works");
  return all_work ? 0 : 1;
}
