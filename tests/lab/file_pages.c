// Reads mappings of a file from the page cache, every page of them, and says what that cost.
//
//     file_pages FILE      // at least 16 MiB that nobody changes meanwhile
//
// Prints lines "ORDER PAGES EXITS", the exits from /sys/kernel/debug/kvm/exits. Wrong contents, a right that only a neighbour
// has, or a signal that does not come end it with 1.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kPage = 4096, kPages = 4096 };

static void require(int is_true, const char *what) {
  if (is_true) return;
  perror(what);
  exit(1);
}

static long exits(void) {
  char text[32] = "";
  const int file = open("/sys/kernel/debug/kvm/exits", O_RDONLY);
  require(file >= 0 && read(file, text, sizeof(text) - 1) > 0, "/sys/kernel/debug/kvm/exits");
  close(file);
  return atol(text);
}

static sigjmp_buf back;
static void jump(int signal) { siglongjmp(back, signal); }

// The signal that reading there raises, or 0.
static int signal_of(volatile const char *at) {
  const int signal = sigsetjmp(back, 1);
  if (signal == 0) (void)*at;
  return signal;
}

static const unsigned char *map_file(int file, int flags) {
  const void *at = mmap(NULL, kPages * kPage, PROT_READ, flags, file, 0);
  require(at != MAP_FAILED, "mmap");
  return at;
}

// Page after page, each `step` pages behind the one before.
static void read_all(const char *order, int file, int flags, unsigned step, const uint32_t *sums) {
  const unsigned char *at = map_file(file, flags);
  const long before = exits();
  for (unsigned i = 0; i < kPages; i++) {
    const unsigned page = i * step % kPages;
    uint32_t word;
    memcpy(&word, at + (size_t)page * kPage, sizeof(word));
    require(word == sums[page], "the page of another place");
  }
  printf("%s %d %ld\n", order, kPages, exits() - before);
  munmap((void *)at, kPages * kPage);
}

// Neighbours that are filled in keep their own rights, and what is behind the file's end is not there.
static void look_at_neighbours(int file) {
  char *at = mmap(NULL, 64 * kPage, PROT_READ, MAP_SHARED, file, 0);
  require(at != MAP_FAILED, "mmap");
  require(mprotect(at + 8 * kPage, kPage, PROT_NONE) == 0, "mprotect");
  require(signal_of(at) == 0 && signal_of(at + 9 * kPage) == 0, "a page that may be read");
  require(signal_of(at + 8 * kPage) == SIGSEGV, "a page that may not be read");
  munmap(at, 64 * kPage);

  char *copy = mmap(NULL, 64 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  const char first = copy[0], third = copy[3 * kPage];
  copy[3 * kPage] = (char)(third + 1);
  copy[kPage] ^= 1;
  char *other = mmap(NULL, 64 * kPage, PROT_READ, MAP_PRIVATE, file, 0);
  require(copy[0] == first && copy[3 * kPage] == (char)(third + 1) && other[3 * kPage] == third, "a page of one's own");
  munmap(copy, 64 * kPage);
  munmap(other, 64 * kPage);

  const int small = memfd_create("small", MFD_CLOEXEC);
  require(ftruncate(small, 40 * kPage) == 0, "ftruncate");
  char *cut = mmap(NULL, 64 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, small, 0);
  memset(cut, 7, 40 * kPage);
  char *seen = mmap(NULL, 64 * kPage, PROT_READ, MAP_SHARED, small, 0);
  require(seen[0] == 7 && seen[17 * kPage] == 7, "shared memory");
  require(signal_of(seen + 40 * kPage) == SIGBUS, "behind the end");
  require(ftruncate(small, 2 * kPage) == 0, "ftruncate");
  require(signal_of(seen + kPage) == 0 && signal_of(seen + 17 * kPage) == SIGBUS, "behind the new end");
}

int main(int argc, char **argv) {
  require(argc == 2, "file_pages FILE");
  signal(SIGSEGV, jump);
  signal(SIGBUS, jump);
  const int file = open(argv[1], O_RDONLY);
  require(file >= 0, argv[1]);
  static uint32_t sums[kPages];
  for (unsigned page = 0; page < kPages; page++) {
    require(pread(file, &sums[page], sizeof(sums[page]), (off_t)page * kPage) == sizeof(sums[page]), "pread");
  }
  read_all("in_order", file, MAP_PRIVATE, 1, sums);
  read_all("shared", file, MAP_SHARED, 1, sums);
  read_all("here_and_there", file, MAP_PRIVATE, 1531, sums);
  look_at_neighbours(file);
  return 0;
}
