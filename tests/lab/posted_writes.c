// Writes a little at a time to files and pipes, with everything between that has to find it written. Natively, in the sandbox, and
// there with --posted-writes it does the same, and ends with 0.
//
//     posted_writes         // in a directory where it may make files
//     posted_writes abort   // writes 2,000 lines to standard output, the last without its end, and aborts
//     posted_writes full    // writes to a file that may not grow so far: a later call has the error
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void require(int is_true, const char *what) {
  if (is_true) return;
  fprintf(stderr, "posted_writes: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void put(int file, const char *text, size_t size) {
  require(write(file, text, size) == (ssize_t)size, "write");
}

static int new_file(const char *name) {
  const int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
  require(file >= 0, name);
  return file;
}

// Sizes up to what is posted and beyond, and two files by turns.
static void all_sizes(void) {
  enum { kBytes = 600 };
  static char pattern[kBytes], found[kBytes];
  for (int i = 0; i < kBytes; i++) pattern[i] = (char)(i * 7 + 1);
  const int one = new_file("one"), two = new_file("two");
  off_t at = 0;
  for (int size = 1; size <= kBytes; size++) {
    put(one, pattern, (size_t)size);
    put(two, pattern + kBytes - size, (size_t)size);
    if (size % 50 != 0) continue;
    require(lseek(one, 0, SEEK_CUR) == lseek(two, 0, SEEK_CUR), "lseek");
  }
  for (int size = 1; size <= kBytes; at += size++) {
    require(pread(one, found, (size_t)size, at) == size && memcmp(found, pattern, (size_t)size) == 0, "one");
    require(pread(two, found, (size_t)size, at) == size && memcmp(found, pattern + kBytes - size, (size_t)size) == 0, "two");
  }
  char *volatile nowhere = (char *)8;
  require(write(one, nowhere, 4) == -1 && errno == EFAULT, "EFAULT");
  nowhere = (char *)-4096;
  require(write(one, nowhere, 4) == -1 && errno == EFAULT, "EFAULT above");
  require(write(one, pattern, 0) == 0, "0 bytes");
  // A page that nobody has touched, and one that ends where nothing is.
  char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(munmap(pages + 4096, 4096) == 0, "munmap");
  put(one, pages + 1000, 100);
  put(one, pages + 4096 - 3, 3);
  require(write(one, pages + 4096 - 3, 4) == 3 || errno == EFAULT, "the end of memory");
  close(one);
  close(two);
}

// More than a pipe holds goes through it to a child that reads slowly, and nothing is lost or swapped.
static void through_a_pipe(void) {
  enum { kLines = 20000 };
  int ends[2];
  require(pipe(ends) == 0, "pipe");
  const pid_t child = fork();
  if (child == 0) {
    close(ends[1]);
    FILE *in = fdopen(ends[0], "r");
    char line[64];
    long wanted = 0;
    while (fgets(line, sizeof(line), in) != NULL) {
      if (atol(line) != wanted++) _exit(2);
      if (wanted % 4000 == 0) usleep(10000);
    }
    _exit(wanted == kLines ? 0 : 3);
  }
  close(ends[0]);
  char line[64];
  for (int i = 0; i < kLines; i++) put(ends[1], line, (size_t)snprintf(line, sizeof(line), "%d\n", i));
  close(ends[1]);
  int status = 0;
  require(waitpid(child, &status, 0) == child && status == 0, "what the child has read");
}

// A child, a signal to another process and a shared descriptor find what was written before.
static void before_everything(void) {
  const int file = new_file("before");
  for (int i = 0; i < 10; i++) put(file, "0123456789", 10);
  pid_t child = fork();
  if (child == 0) _exit(lseek(file, 0, SEEK_CUR) == 100 ? 0 : 1);
  int status = 0;
  require(waitpid(child, &status, 0) == child && status == 0, "fork");
  put(file, "x", 1);
  put(file, "y", 1);
  child = vfork();
  if (child == 0) {
    put(file, "z", 1);
    _exit(lseek(file, 0, SEEK_CUR) == 103 ? 0 : 1);
  }
  require(waitpid(child, &status, 0) == child && status == 0, "vfork");
  put(file, "1", 1);
  put(file, "2", 1);
  const int again = dup(file);
  put(again, "3", 1);
  put(file, "4", 1);
  char found[8] = "";
  require(pread(again, found, 7, 100) == 7 && strcmp(found, "xyz1234") == 0, "the order of two numbers");
  char *seen = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
  put(file, "5", 1);
  require(seen[107] == '5', "what memory shows");
  put(file, "6", 1);
  require(seen[108] == '6', "what memory shows");
}

static volatile sig_atomic_t signals;
static void count(int signal) { signals += signal == SIGPIPE; }

static void nobody_reads(void) {
  int ends[2];
  require(pipe(ends) == 0, "pipe");
  signal(SIGPIPE, count);
  for (int i = 0; i < 5; i++) put(ends[1], "x", 1);
  close(ends[0]);
  require(write(ends[1], "x", 1) == -1 && errno == EPIPE && signals == 1, "SIGPIPE");
}

static int when_full(void) {
  const struct rlimit limit = {1 << 20, 1 << 20};
  require(setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit");
  signal(SIGXFSZ, SIG_IGN);
  const int file = new_file("full");
  require(lseek(file, (1 << 20) - 100, SEEK_SET) > 0, "lseek");
  int failed = 0;
  for (int i = 0; i < 300 && !failed; i++) failed = write(file, "x", 1) != 1;
  if (!failed) failed = close(file) != 0;
  require(failed && errno == EFBIG, "no error");
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "full") == 0) return when_full();
  if (argc > 1) {
    char line[32];
    for (int i = 0; i < 2000; i++) {
      put(STDOUT_FILENO, line, (size_t)snprintf(line, sizeof(line), i < 1999 ? "%d\n" : "%d", i));
    }
    abort();
  }
  all_sizes();
  through_a_pipe();
  before_everything();
  nobody_reads();
  return 0;
}
