// Mappings of large pages, as far as they go without any (MAP_NORESERVE): the kernel gives whole ones.
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "expect.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4U
#endif

enum { kHuge = 2 << 20, kPage = 4096 };
static const int kKind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE;

// How much of the area is mapped as one thing with that name, from its start.
static size_t mapped(const char* start) {
  FILE* maps = fopen("/proc/self/maps", "r");
  EXPECT(maps != NULL);
  char line[4096];
  size_t bytes = 0;
  while (fgets(line, sizeof(line), maps) != NULL) {
    char* end;
    const uintptr_t from = strtoull(line, &end, 16), to = strtoull(end + 1, NULL, 16);
    if (from == (uintptr_t)start && strstr(line, "hugepage") != NULL) bytes = to - from;
    if (from == (uintptr_t)start && strstr(line, "memfd") != NULL) bytes = to - from;
    if (from == (uintptr_t)start && strstr(line, "SYSV") != NULL) bytes = to - from;
  }
  fclose(maps);
  return bytes;
}

static int error_of(const void* result) { return result == MAP_FAILED ? errno : 0; }

int main(void) {
  char* const area = (char*)0x10000000000;
  EXPECT(mmap(area, 4 * kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area);
  memset(area, 1, 4 * kHuge);
  char* huge = mmap(area, kPage, PROT_READ | PROT_WRITE, kKind | MAP_FIXED, -1, 0);
  if (huge == MAP_FAILED) SKIP("this kernel has no large pages");
  printf("%zu of %d\n", mapped(area), kHuge);
  EXPECT(area[kHuge] == 1);
  printf("%d\n", error_of(mmap(area + kPage, kPage, PROT_READ, kKind | MAP_FIXED, -1, 0)));
  printf("%d\n", error_of(mmap(area + 2 * kHuge, 3 * kHuge, PROT_READ, kKind | MAP_FIXED_NOREPLACE, -1, 0)));
  printf("%d\n", munmap(area, kPage) == 0 ? 0 : errno);
  printf("%d\n", error_of(mmap(NULL, kPage, PROT_READ, kKind | 13 << 26, -1, 0)));
  EXPECT(munmap(area, kHuge) == 0);
  char* const first = mmap(NULL, kPage, PROT_READ, kKind, -1, 0);
  char* const second = mmap(NULL, kPage, PROT_READ, kKind, -1, 0);
  EXPECT(first != MAP_FAILED && second != MAP_FAILED && first != second);
  EXPECT((uintptr_t)first % kHuge == 0 && (uintptr_t)second % kHuge == 0);

  // A segment says less than it has.
  const int segment = shmget(IPC_PRIVATE, kPage + 1, IPC_CREAT | 0600 | SHM_HUGETLB | SHM_NORESERVE);
  if (segment >= 0) {
    char* const anywhere = shmat(segment, NULL, 0);
    EXPECT(anywhere != (char*)-1 && (uintptr_t)anywhere % kHuge == 0);
    printf("%zu of %d\n", mapped(anywhere), kHuge);
    char* const next = mmap(anywhere + 2 * kPage, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(next != MAP_FAILED && next != anywhere + 2 * kPage);
    printf("%d\n", error_of(mmap(anywhere + kHuge - kPage, kPage, PROT_READ,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)));
    printf("%d\n", munmap(anywhere, kPage) == 0 ? 0 : errno);
    EXPECT(shmdt(anywhere) == 0 && mapped(anywhere) == 0);
    EXPECT(shmat(segment, area + kPage, 0) == (char*)-1);
    EXPECT(shmat(segment, area, 0) == area);
    printf("%zu of %d\n", mapped(area), kHuge);
    EXPECT(shmdt(area) == 0);
    char* const neighbour = mmap(area + kHuge / 2, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    EXPECT(neighbour == area + kHuge / 2);
    printf("%d\n", error_of(shmat(segment, area, 0)));
    EXPECT(munmap(neighbour, kPage) == 0 && shmctl(segment, IPC_RMID, NULL) == 0);
  }
  const int ordinary = shmget(IPC_PRIVATE, kPage + 1, IPC_CREAT | 0600);
  EXPECT(ordinary >= 0);
  char* const small = shmat(ordinary, NULL, 0);
  EXPECT(small != (char*)-1);
  printf("%zu\n", mapped(small));
  small[2 * kPage - 1] = 1;
  EXPECT(shmdt(small) == 0 && shmctl(ordinary, IPC_RMID, NULL) == 0);

  const int file = memfd_create("large", MFD_HUGETLB);
  if (file < 0) return 0;
  char* const shared = mmap(NULL, kPage, PROT_READ, MAP_SHARED | MAP_NORESERVE, file, 0);
  EXPECT(shared != MAP_FAILED && (uintptr_t)shared % kHuge == 0);
  printf("%zu of %d\n", mapped(shared), kHuge);
  EXPECT(munmap(shared, kHuge) == 0);
  return 0;
}
