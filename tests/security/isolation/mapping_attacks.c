// Asks the kernel to change, lock, look at or replace the runtime's mappings: every call that takes
// a range. All of them are the supervisor's to refuse, under every isolation.
#include <errno.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/uio.h>

#include "attack.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

// Of each place: the page of its room, its first page, all of it.
struct range {
  const char* name;
  u64 start, length;
};

static void for_each_range(void (*attack)(const struct range*)) {
  for (int i = 0; i < place_count; ++i) {
    const struct place* place = &places[i];
    const struct range ranges[] = {
        {place->name, place->write & ~4095UL, 4096},
        {place->name, place->start, 4096},
        {place->name, place->start, place->end - place->start},
        {place->name, place->read & ~4095UL, 4096},
    };
    for (int j = 0; j < 4; ++j) {
      if (ranges[j].start != 0) attack(&ranges[j]);
    }
  }
  // From the program's half over its edge, all of the address space, and what wraps around.
  static const struct range kEdges[] = {
      {"over the edge", USER_HALF_END - 4096, 8192},
      {"the runtime's half", USER_HALF_END, USER_HALF_END},
      {"over the edge, far", USER_HALF_END - 4096, USER_HALF_END},
      {"wrapping", 0xfffffffffffff000, 0x2000},
      {"the kernel's", 0xffff800000000000, 4096},
  };
  for (int j = 0; j < 5; ++j) attack(&kEdges[j]);
}

static void expect_refused(const char* call, const struct range* range, long result) {
  if (result >= 0) breach("%s of %s %lx: %lx", call, range->name, range->start, result);
}

static u64 own_pages(size_t length) {
  return (u64)mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

// ---- mmap
// ------------------------------------------------------------------------------------------

static void attack_mmap_fixed(const struct range* range) {
  static const int kFlags[] = {MAP_FIXED,
                               MAP_FIXED_NOREPLACE,
                               MAP_FIXED | MAP_FIXED_NOREPLACE,
                               MAP_FIXED | MAP_GROWSDOWN,
                               MAP_FIXED | MAP_HUGETLB,
                               MAP_FIXED | MAP_POPULATE,
                               MAP_FIXED | MAP_STACK | MAP_NORESERVE,
                               MAP_FIXED | MAP_LOCKED,
                               MAP_FIXED | MAP_32BIT};
  for (size_t i = 0; i < sizeof(kFlags) / sizeof(int); ++i) {
    expect_refused("mmap fixed", range,
                   CALL6(SYS_mmap, range->start, range->length, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | kFlags[i], -1, 0));
    expect_refused("mmap fixed shared", range,
                   CALL6(SYS_mmap, range->start, range->length, PROT_NONE,
                         MAP_SHARED | MAP_ANONYMOUS | kFlags[i], -1, 0));
  }
  const int file = (int)CALL2(SYS_memfd_create, "x", 0);
  CALL2(SYS_ftruncate, file, 1 << 20);
  expect_refused("mmap fixed file", range,
                 CALL6(SYS_mmap, range->start, range->length, PROT_READ | PROT_EXEC,
                       MAP_SHARED | MAP_FIXED, file, 0));
  CALL1(SYS_close, file);
}
// A hint is no order.
static void attack_mmap_hint(const struct range* range) {
  const long result =
      CALL6(SYS_mmap, range->start, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (result > 0 && (u64)result + 8192 > USER_HALF_END)
    breach("a hint at %lx gave %lx", range->start, result);
  if (result > 0) CALL2(SYS_munmap, result, 8192);
}
static void run_mmap(void) {
  for_each_range(attack_mmap_fixed);
  for_each_range(attack_mmap_hint);
}

// ---- munmap, mprotect, madvise
// ---------------------------------------------------------------------

static void attack_munmap(const struct range* range) {
  expect_refused("munmap", range, CALL2(SYS_munmap, range->start, range->length));
  // From page 0 up to it.
  expect_refused("munmap from 64 KiB", range, CALL2(SYS_munmap, 0x7fff00000000, range->start));
}
static void run_munmap(void) { for_each_range(attack_munmap); }

static void attack_mprotect(const struct range* range) {
  static const int kProt[] = {PROT_NONE,
                              PROT_READ,
                              PROT_READ | PROT_WRITE,
                              PROT_READ | PROT_WRITE | PROT_EXEC,
                              PROT_READ | PROT_WRITE | PROT_GROWSDOWN,
                              PROT_READ | PROT_GROWSUP,
                              0x8};
  for (size_t i = 0; i < sizeof(kProt) / sizeof(int); ++i) {
    expect_refused("mprotect", range, CALL3(SYS_mprotect, range->start, range->length, kProt[i]));
    expect_refused("pkey_mprotect", range,
                   CALL4(SYS_pkey_mprotect, range->start, range->length, kProt[i], 0));
    expect_refused("pkey_mprotect -1", range,
                   CALL4(SYS_pkey_mprotect, range->start, range->length, kProt[i], -1));
  }
}
static void run_mprotect(void) {
  for_each_range(attack_mprotect);
  for (int key = 0; key < 16; ++key) {
    if (CALL2(SYS_pkey_alloc, 0, 0) >= 0) breach("pkey_alloc works");
    if (CALL1(SYS_pkey_free, key) >= 0) breach("pkey_free of %d works", key);
  }
}

static void attack_madvise(const struct range* range) {
  for (int advice = 0; advice < 128; ++advice) {
    expect_refused("madvise", range, CALL3(SYS_madvise, range->start, range->length, advice));
  }
  // From the program's own page into it.
  const u64 own = own_pages(4096);
  if (range->start >= USER_HALF_END) {
    expect_refused("madvise from here to there", range,
                   CALL3(SYS_madvise, own, range->start + 4096 - own, MADV_DONTNEED));
  }
  CALL2(SYS_munmap, own, 4096);
}
static void run_madvise(void) { for_each_range(attack_madvise); }

static void attack_process_madvise(const struct range* range) {
  const long self = CALL2(SYS_pidfd_open, CALL1(SYS_getpid, 0), 0);
  const struct iovec vector = {(void*)range->start, range->length};
  for (int advice = 0; advice < 32; ++advice) {
    expect_refused("process_madvise", range, CALL5(440, self, &vector, 1, advice, 0));
  }
  if (self >= 0) CALL1(SYS_close, self);
}
static void run_process_madvise(void) { for_each_range(attack_process_madvise); }

// ---- mremap
// ----------------------------------------------------------------------------------------

static void attack_mremap_of(const struct range* range) {
  static const int kFlags[] = {0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP};
  for (int i = 0; i < 3; ++i) {
    expect_refused("mremap", range,
                   CALL5(SYS_mremap, range->start, range->length, range->length, kFlags[i], 0));
    expect_refused("mremap larger", range,
                   CALL5(SYS_mremap, range->start, 4096, 8192, kFlags[i], 0));
    expect_refused("mremap of nothing", range,
                   CALL5(SYS_mremap, range->start, 0, 4096, kFlags[i], 0));
    expect_refused("mremap smaller", range,
                   CALL5(SYS_mremap, range->start, 8192, 4096, kFlags[i], 0));
  }
  const u64 target = own_pages(4096);
  expect_refused(
      "mremap to here", range,
      CALL5(SYS_mremap, range->start, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, target));
  CALL2(SYS_munmap, target, 4096);
}
static void attack_mremap_onto(const struct range* range) {
  if (range->start < USER_HALF_END) return;  // its first page is the program's to use
  const u64 own = own_pages(16384);
  expect_refused("mremap onto", range,
                 CALL5(SYS_mremap, own, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, range->start));
  expect_refused("mremap onto, keeping", range,
                 CALL5(SYS_mremap, own, 4096, 4096,
                       MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, range->start));
  expect_refused("mremap onto, larger", range,
                 CALL5(SYS_mremap, own, 4096, range->length + 4096, MREMAP_MAYMOVE | MREMAP_FIXED,
                       range->start));
  expect_refused("mremap onto, smaller", range,
                 CALL5(SYS_mremap, own, 16384, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, range->start));
  const u64 shared =
      (u64)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  expect_refused("a shared mapping's double onto", range,
                 CALL5(SYS_mremap, shared, 0, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, range->start));
  CALL2(SYS_munmap, own, 16384);
  CALL2(SYS_munmap, shared, 4096);
}
static void run_mremap(void) {
  for_each_range(attack_mremap_of);
  for_each_range(attack_mremap_onto);
  // What grows in place may not grow over the edge.
  const u64 last = USER_HALF_END - 4096;
  const long page = CALL6(SYS_mmap, last, 4096, PROT_READ,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (page == (long)last) {
    if (CALL5(SYS_mremap, last, 4096, 8192, 0, 0) >= 0) breach("a mapping grew over the edge");
    const long moved = CALL5(SYS_mremap, last, 4096, 1 << 20, MREMAP_MAYMOVE, 0);
    if (moved > 0 && (u64)moved + (1 << 20) > USER_HALF_END)
      breach("a mapping moved over the edge");
  }
}

// ---- locks, residency, synchronisation
// --------------------------------------------------------------

static void attack_mlock(const struct range* range) {
  expect_refused("mlock", range, CALL2(SYS_mlock, range->start, range->length));
  expect_refused("mlock2", range, CALL3(SYS_mlock2, range->start, range->length, 0));
  expect_refused("mlock2 on fault", range, CALL3(SYS_mlock2, range->start, range->length, 1));
  expect_refused("munlock", range, CALL2(SYS_munlock, range->start, range->length));
}
static void run_mlock(void) {
  for_each_range(attack_mlock);
  (void)CALL1(SYS_mlockall, 1);
  (void)CALL1(SYS_munlockall, 0);
}

static void attack_mincore(const struct range* range) {
  static unsigned char states[1 << 20];
  const u64 length = range->length < (1UL << 32) ? range->length : 1UL << 32;
  expect_refused("mincore", range, CALL3(SYS_mincore, range->start, length, states));
  expect_refused("mincore of a byte", range, CALL3(SYS_mincore, range->start, 1, states));
}
// The answer's place is an address too.
static void attack_mincore_answer(const struct range* range) {
  const u64 own = own_pages(65536);
  memset((void*)own, 1, 65536);
  const u64 offsets[] = {0, 0x400, 0xff8};
  for (int i = 0; i < 3; ++i) {
    expect_refused("mincore with its answer", range,
                   CALL3(SYS_mincore, own, 65536, range->start + offsets[i]));
    expect_refused("mincore with its answer", range,
                   CALL3(SYS_mincore, own, 1, range->start + offsets[i]));
  }
  CALL2(SYS_munmap, own, 65536);
}
static void run_mincore(void) {
  for_each_range(attack_mincore);
  for_each_range(attack_mincore_answer);
}

static void attack_msync(const struct range* range) {
  for (int flags = 0; flags < 8; ++flags)
    expect_refused("msync", range, CALL3(SYS_msync, range->start, range->length, flags));
}
static void run_msync(void) { for_each_range(attack_msync); }

// ---- the rest
// --------------------------------------------------------------------------------------

static int segment;
static void attack_shmat(const struct range* range) {
  static const int kFlags[] = {
      0, SHM_REMAP, SHM_RDONLY | SHM_REMAP, SHM_EXEC | SHM_REMAP, SHM_RND, SHM_RND | SHM_REMAP};
  for (int i = 0; i < 6; ++i) {
    expect_refused("shmat", range, CALL3(SYS_shmat, segment, range->start, kFlags[i]));
    expect_refused("shmat", range,
                   CALL3(SYS_shmat, segment, range->start + 17, kFlags[i] | SHM_RND));
  }
  expect_refused("shmdt", range, CALL1(SYS_shmdt, range->start));
}
static void attack_shmctl(const struct range* range) {
  expect_refused("shmctl stat", range, CALL3(SYS_shmctl, segment, IPC_STAT, range->start));
  expect_refused("shmctl set", range, CALL3(SYS_shmctl, segment, IPC_SET, range->start));
  expect_refused("shmctl info", range, CALL3(SYS_shmctl, 0, 14, range->start));
}
static void run_shared_segments(void) {
  segment = (int)CALL3(SYS_shmget, IPC_PRIVATE, 16384, 0600);
  if (segment < 0) return note("no segments here");
  for_each_range(attack_shmat);
  for_each_range(attack_shmctl);
  CALL3(SYS_shmctl, segment, IPC_RMID, 0);
}

static void attack_others(const struct range* range) {
  expect_refused("remap_file_pages", range,
                 CALL5(SYS_remap_file_pages, range->start, range->length, 0, 0, 0));
  expect_refused("mseal", range, CALL3(462, range->start, range->length, 0));
  expect_refused("map_shadow_stack", range, CALL3(453, range->start, 4096, 0));
  unsigned long nodes = 1;
  expect_refused("mbind", range, CALL6(SYS_mbind, range->start, range->length, 2, &nodes, 64, 2));
  expect_refused("set_mempolicy_home_node", range, CALL4(450, range->start, range->length, 0, 0));
  void* pages[1] = {(void*)range->start};
  int status[1] = {0}, node[1] = {0};
  // Of a page that is not there the status says so, as natively.
  CALL6(SYS_move_pages, 0, 1, pages, node, status, 2);
  expect_refused("move_pages", range, status[0]);
  status[0] = 0;
  CALL6(SYS_move_pages, 0, 1, pages, 0, status, 0);
  expect_refused("move_pages, asking", range, status[0]);
  expect_refused("move_pages of another", range, CALL6(SYS_move_pages, 1, 1, pages, 0, status, 0));
  expect_refused("move_pages, answer", range,
                 CALL6(SYS_move_pages, 0, 1, pages, 0, range->start, 0));
  expect_refused("get_mempolicy", range,
                 CALL5(SYS_get_mempolicy, range->start, 0, 0, range->start, 2));
  expect_refused("get_mempolicy, answer", range,
                 CALL5(SYS_get_mempolicy, 0, range->start, 1024, 0, 4));
  expect_refused("set_mempolicy", range, CALL3(SYS_set_mempolicy, 2, range->start, 64));
  expect_refused("migrate_pages", range,
                 CALL4(SYS_migrate_pages, 0, 64, range->start, range->start));
}
static void run_other_ranges(void) { for_each_range(attack_others); }

static void run_brk(void) {
  const long heap = CALL1(SYS_brk, 0);
  for (int i = 0; i < place_count; ++i) {
    const u64 ends[] = {places[i].start, places[i].start + 4096, places[i].end, places[i].write};
    for (int j = 0; j < 4; ++j) {
      const long result = CALL1(SYS_brk, ends[j]);
      if ((u64)result >= USER_HALF_END) breach("brk gives %lx", result);
      CALL1(SYS_brk, heap);
    }
  }
  static const u64 kOdd[] = {
      USER_HALF_END, USER_HALF_END + 1, USER_HALF_END - 1, 0x7ffffffff000, ~0UL, 1UL << 63, 1};
  for (size_t i = 0; i < sizeof(kOdd) / sizeof(u64); ++i) {
    const long result = CALL1(SYS_brk, kOdd[i]);
    if ((u64)result > USER_HALF_END) breach("brk gives %lx", result);
    CALL1(SYS_brk, heap);
  }
}

const struct attack_case attack_cases[] = {
    {"mmap", run_mmap},
    {"munmap", run_munmap},
    {"mprotect", run_mprotect},
    {"madvise", run_madvise},
    {"process_madvise", run_process_madvise},
    {"mremap", run_mremap},
    {"mlock", run_mlock},
    {"mincore", run_mincore},
    {"msync", run_msync},
    {"shared_segments", run_shared_segments},
    {"other_ranges", run_other_ranges},
    {"brk", run_brk},
    {NULL, NULL},
};
