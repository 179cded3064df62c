// Calls about mappings, aimed at the runtime's: all of them fail.
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "victim.h"

namespace {

using victim::Call;
using victim::Expect;

std::uint64_t own;  // a mapping of the victim's, two pages
int segment = -1;

std::uint64_t OwnMapping() {
  void* at = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return reinterpret_cast<std::uint64_t>(at);
}

void Attack(std::uint64_t at, std::uint64_t length) {
  // A range may start in the program's own last page; what takes no length is aimed at the next.
  const std::uint64_t inside = at < victim::kRuntimeHalf ? victim::kRuntimeHalf : at;
  const struct {
    const char* name;
    long result;
  } results[] = {
      {"mmap, fixed", Call(SYS_mmap, at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~0ul, 0)},
      {"mmap, fixed, no rights", Call(SYS_mmap, at, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, ~0ul, 0)},
      {"mmap, fixed without replacing", Call(SYS_mmap, at, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, ~0ul, 0)},
      {"munmap", Call(SYS_munmap, at, length)},
      {"mprotect, none", Call(SYS_mprotect, at, length, PROT_NONE)},
      {"mprotect, all", Call(SYS_mprotect, at, length, PROT_READ | PROT_WRITE | PROT_EXEC)},
      {"pkey_mprotect", Call(SYS_pkey_mprotect, at, length, PROT_READ, ~0ul)},
      {"mremap away", Call(SYS_mremap, at, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, own)},
      {"mremap away, anywhere", Call(SYS_mremap, at, 4096, 8192, MREMAP_MAYMOVE, 0)},
      {"mremap over it", Call(SYS_mremap, own, 4096, length, MREMAP_MAYMOVE | MREMAP_FIXED, at)},
      {"mremap over it, keeping", Call(SYS_mremap, own, length, length, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, at)},
      {"mremap, duplicating", Call(SYS_mremap, at, 0, 4096, MREMAP_MAYMOVE, 0)},
      {"shmat", Call(SYS_shmat, static_cast<std::uint64_t>(segment), inside, 0)},
      {"shmat over it", Call(SYS_shmat, static_cast<std::uint64_t>(segment), inside, SHM_REMAP)},
      {"shmdt", Call(SYS_shmdt, inside)},
      {"remap_file_pages", Call(SYS_remap_file_pages, at, 4096, 0, 0, 0)},
      {"mbind", Call(SYS_mbind, at, length, 2, 0, 0, 0)},
      {"mlock", Call(SYS_mlock, at, length)},
      {"munlock", Call(SYS_munlock, at, length)},
      {"mlock2", Call(SYS_mlock2, at, length, 1)},
      {"msync", Call(SYS_msync, at, length, MS_SYNC)},
      {"mincore", Call(SYS_mincore, at, length, own)},
      {"mseal", Call(462, at, length, 0)},
      {"map_shadow_stack", Call(453, at, length, 0)},
      {"userfaultfd", Call(SYS_userfaultfd, 0)},
      {"prctl PR_SET_MM", Call(SYS_prctl, 35, 7, at, 0, 0)},
      {"prctl PR_SET_VMA", Call(SYS_prctl, 0x53564d41, 0, at, length, 0)},
  };
  for (const auto& one : results) {
    Expect(one.result < 0 && one.result >= -4095, "%s at 0x%lx, length 0x%lx, gives %ld", one.name, at, length, one.result);
  }
  for (std::uint64_t advice = 0; advice <= 26; ++advice) {
    const long result = Call(SYS_madvise, at, length, advice);
    Expect(result < 0, "madvise %lu at 0x%lx gives %ld", advice, at, result);
  }
  for (const std::uint64_t advice : {100ul, 101ul, 102ul, 103ul}) {
    const long result = Call(SYS_madvise, at, length, advice);
    Expect(result < 0, "madvise %lu at 0x%lx gives %ld", advice, at, result);
  }
  // The break cannot be moved there, and a hint is only a hint.
  const long old_break = Call(SYS_brk, 0);
  Expect(Call(SYS_brk, at) == old_break, "brk moved to 0x%lx", at);
  const auto hinted = static_cast<std::uint64_t>(Call(SYS_mmap, at & ~4095ul, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, ~0ul, 0));
  Expect(hinted < victim::kRuntimeHalf, "a hint of 0x%lx was taken", at);
  Call(SYS_munmap, hinted, 4096);
  victim::ExpectAlive("calls about the runtime's mappings");
}

}  // namespace

int main() {
  victim::Begin("runtime_mappings");
  own = OwnMapping();
  segment = shmget(IPC_PRIVATE, 4096, 0600);
  for (const victim::Range& range : victim::RuntimeRanges()) {
    Attack(range.start, 4096);
    Attack(range.start, range.end - range.start);
    Attack(range.end - 4096, 8192);
  }
  Attack(victim::kRuntimeHalf, 4096);
  Attack(victim::kRuntimeHalf - 4096, 8192);
  Attack(victim::kRuntimeHalf, victim::kRuntimeHalf);
  Attack(0x7ffffffff000, 4096);
  Attack(0xffffff8000000000, 4096);
  if (segment >= 0) shmctl(segment, IPC_RMID, nullptr);
  return victim::Verdict();
}
