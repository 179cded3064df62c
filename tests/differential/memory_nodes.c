// Policies of NUMA memory: what is asked, set, bound and moved, and which error is told. Every machine with CONFIG_NUMA has
// node 0.
#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

#define TELL(call)                                                                     \
  do {                                                                                 \
    errno = 0;                                                                         \
    const long result = (call);                                                        \
    printf("%s: %ld %s\n", #call, result, result >= 0 ? "" : strerrorname_np(errno));  \
  } while (0)

enum { kPages = 600, kPage = 4096, kBits = 1024 };
static unsigned long nodes[kBits / 64];
static char* area;

static long get(int* mode, unsigned long* mask, unsigned long bits, void* at, unsigned long flags) {
  return syscall(SYS_get_mempolicy, mode, mask, bits, at, flags);
}
static long set(int mode, unsigned long* mask, unsigned long bits) {
  return syscall(SYS_set_mempolicy, mode, mask, bits);
}
static long bind(void* at, unsigned long length, int mode, unsigned long* mask, unsigned long bits, unsigned flags) {
  return syscall(SYS_mbind, at, length, mode, mask, bits, flags);
}
static long home(void* at, unsigned long length, unsigned long node, unsigned long flags) {
  return syscall(SYS_set_mempolicy_home_node, at, length, node, flags);
}

static void tell_thread(const char* of) {
  int mode = -1;
  unsigned long mask[kBits / 64] = {0};
  EXPECT(get(&mode, mask, kBits, NULL, 0) == 0);
  printf("%s: mode %d, nodes %lx\n", of, mode, mask[0]);
}
static void tell_address(const char* of, void* at) {
  int mode = -1;
  unsigned long mask[kBits / 64] = {0};
  EXPECT(get(&mode, mask, kBits, at, MPOL_F_ADDR) == 0);
  printf("%s: mode %d, nodes %lx\n", of, mode, mask[0]);
}
static void* in_thread(void* unused) {
  tell_thread("a new thread");
  EXPECT(set(MPOL_DEFAULT, NULL, 0) == 0);
  return unused;
}

static void threads(void) {
  unsigned long* const nowhere = (unsigned long*)16;
  int mode = -1;
  tell_thread("at the start");
  nodes[0] = 1;
  TELL(set(MPOL_BIND, nodes, 64));
  tell_thread("bound");
  pthread_t thread;
  EXPECT(pthread_create(&thread, NULL, in_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
  tell_thread("after the thread");
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    tell_thread("in a child");
    fflush(stdout);
    _exit(0);
  }
  waitpid(child, NULL, 0);
  TELL(set(MPOL_PREFERRED, NULL, 0));
  tell_thread("preferred");
  TELL(set(MPOL_INTERLEAVE | MPOL_F_STATIC_NODES, nodes, 2));
  tell_thread("interleaved");
  TELL(set(MPOL_DEFAULT, nodes, 64));
  TELL(set(99, nowhere, 64));
  TELL(set(MPOL_BIND, nowhere, 64));
  TELL(set(MPOL_BIND, nodes, 0));
  TELL(set(MPOL_BIND, nodes, UINT64_MAX));
  TELL(set(MPOL_BIND, nodes, 8 * kPage + 2));
  nodes[0] = 1ul << 63;
  TELL(set(MPOL_BIND, nodes, 65));
  nodes[0] = 1;
  TELL(set(MPOL_DEFAULT, NULL, 0));
  tell_thread("default again");

  TELL(get(NULL, NULL, 0, NULL, 0));
  TELL(get(NULL, nodes, kBits, NULL, MPOL_F_MEMS_ALLOWED));
  TELL(get(NULL, nodes, 0, NULL, MPOL_F_MEMS_ALLOWED));
  TELL(get(NULL, nowhere, kBits, NULL, MPOL_F_MEMS_ALLOWED));
  TELL(get(NULL, nodes, UINT64_MAX, NULL, 0));
  TELL(get((int*)nowhere, NULL, 0, NULL, 0));
  TELL(get(&mode, NULL, 0, NULL, MPOL_F_ADDR));
  TELL(get(&mode, NULL, 0, nowhere, MPOL_F_ADDR));
  TELL(get(&mode, NULL, 0, &mode, 0));
  TELL(get(&mode, NULL, 0, &mode, MPOL_F_ADDR | MPOL_F_NODE));
  printf("on node %d\n", mode);
}

static void mappings(void) {
  tell_address("before", area);
  TELL(bind(area, 4 * kPage, MPOL_BIND, nodes, 64, MPOL_MF_STRICT | MPOL_MF_MOVE));
  tell_address("bound", area + 3 * kPage);
  tell_address("behind it", area + 4 * kPage);
  TELL(home(area, 4 * kPage, 0, 0));
  TELL(home(area + 8 * kPage, kPage, 0, 0));
  TELL(home(area, 4 * kPage, 0, 1));
  TELL(home(area, 4 * kPage, 100000, 0));
  EXPECT(mprotect(area + kPage, kPage, PROT_READ) == 0);
  tell_address("with other rights", area + kPage);
  EXPECT(mprotect(area + kPage, kPage, PROT_READ | PROT_WRITE) == 0);
  TELL(bind(area, 2 * kPage, MPOL_DEFAULT, NULL, 0, 0));
  tell_address("default again", area);
  EXPECT(munmap(area + 2 * kPage, kPage) == 0);
  TELL(bind(area, 4 * kPage, MPOL_BIND, nodes, 64, 0));
  EXPECT(mmap(area + 2 * kPage, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area + 2 * kPage);
  tell_address("mapped anew", area + 2 * kPage);
  TELL(bind(area + 1, kPage, MPOL_BIND, nodes, 64, 0));
  TELL(bind(area, 0, MPOL_BIND, nodes, 64, 0));
  TELL(bind(area, UINT64_MAX, MPOL_BIND, nodes, 64, 0));
  TELL(bind(area, UINT64_MAX - kPage, MPOL_BIND, nodes, 64, 0));
  TELL(bind(area, kPage, MPOL_BIND, nodes, 64, 1u << 20));
  TELL(bind(area, kPage, MPOL_BIND, (unsigned long*)16, 64, 0));
  for (int i = 0; i < 8; ++i) area[i * kPage] = (char)i;
  for (int i = 0; i < 8; ++i) EXPECT(area[i * kPage] == (char)i);
}

// Memory that an engine may hand out by itself, were it not for its policy.
static void small_mappings(void) {
  char* const bound = mmap(NULL, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(bound != MAP_FAILED);
  TELL(bind(bound, 2 * kPage, MPOL_PREFERRED, nodes, 64, 0));
  memset(bound, 7, 4 * kPage);
  for (int i = 0; i < 200; ++i) {
    char* const other = mmap(NULL, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(other != MAP_FAILED);
    other[0] = 1;
    EXPECT(mprotect(other, kPage, PROT_READ) == 0 && munmap(other, 2 * kPage) == 0);
  }
  tell_address("small", bound + kPage);
  tell_address("behind it", bound + 2 * kPage);
  for (int i = 0; i < 4 * kPage; ++i) EXPECT(bound[i] == 7);
  EXPECT(munmap(bound, 4 * kPage) == 0);
}

static void pages(void) {
  static void* at[kPages];
  static int node[kPages], status[kPages];
  for (int i = 0; i < kPages; ++i) {
    at[i] = area + i * kPage;
    status[i] = 12345;
    if (i % 3 != 0) area[i * kPage] = 1;
  }
  at[kPages - 1] = (void*)16;
  TELL(syscall(SYS_move_pages, 0, kPages, at, NULL, status, 0));
  for (int i = 0; i < kPages; i = i < 9 ? i + 1 : i + 59) printf("page %d: %d\n", i, status[i]);
  printf("nowhere: %d\n", status[kPages - 1]);
  memset(status, 1, sizeof(status));
  TELL(syscall(SYS_move_pages, getpid(), kPages, at, node, status, MPOL_MF_MOVE));
  printf("%d %d %d\n", status[0], status[1], status[kPages - 1]);
  node[1] = 100000;
  memset(status, 1, sizeof(status));
  TELL(syscall(SYS_move_pages, 0, kPages, at, node, status, MPOL_MF_MOVE));
  printf("%d %d\n", status[0], status[1]);
  TELL(syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0));
  TELL(syscall(SYS_move_pages, 0, 1, at, NULL, status, 1 << 20));
  TELL(syscall(SYS_move_pages, 0, 1, 16, NULL, status, 0));
  TELL(syscall(SYS_move_pages, 0, 1, at, NULL, 16, 0));
  nodes[0] = 1;
  TELL(syscall(SYS_migrate_pages, 0, 64, nodes, nodes));
  TELL(syscall(SYS_migrate_pages, getpid(), 64, 16, nodes));
}

int main(void) {
  if (get(NULL, NULL, 0, NULL, 0) != 0) SKIP("a kernel without NUMA memory policies");
  area = mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(area != MAP_FAILED);
  EXPECT(madvise(area, kPages * kPage, MADV_NOHUGEPAGE) == 0);
  threads();
  mappings();
  small_mappings();
  pages();
  return 0;
}
