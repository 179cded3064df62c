// Descriptors, output, disk space and names.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tests/security/abuse/abuse.h"

static int OneMore(int way) {
  int pair[2];
  switch (way) {
    case 0:
      return dup(0);
    case 1:
      return pipe(pair);
    case 2:
      return socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    case 3:
      return epoll_create1(0);
    case 4:
      return eventfd(0, 0);
    case 5:
      return memfd_create("hog", 0);
    case 6:
      return fcntl(0, F_DUPFD, 3);
    default:
      return open("/usr", O_RDONLY);
  }
}

// A child each, so that each begins with none.
int DescriptorHog(void) {
  for (int way = 0; way < 8; ++way) {
    const pid_t child = fork();
    if (child == 0) {
      const struct rlimit more = {kMostDescriptors, kMostDescriptors};
      if (setrlimit(RLIMIT_NOFILE, &more) == 0) Escaped("limit raised");
      int made = 0;
      while (OneMore(way) >= 0) {
        if (++made > kMostDescriptors) Escaped("descriptors");
      }
      // It still works.
      printf("%d: %s, %s\n", way, strerrorname_np(errno), made > 20 ? "many" : "few");
      fflush(stdout);
      _exit(0);
    }
    waitpid(child, NULL, 0);
  }
  return 7;
}

// Both ways out, in all shapes, from two processes.
int OutputFlood(void) {
  static char block[4096];
  memset(block, '#', sizeof(block));
  fork();
  for (int i = 0; i < (kMostMegabytes << 8); ++i) {
    const struct iovec parts[] = {{block, 1000}, {block, 1000}};
    (void)!write(1 + i % 2, block, sizeof(block));
    (void)!writev(1 + i % 2, parts, 2);
  }
  Escaped("output");
  return 1;
}

// In the current directory, a file after the other, and names without contents in the end.
int DiskFiller(void) {
  static char block[1 << 20];
  long long bytes = 0;
  char name[32];
  for (int i = 0;; ++i) {
    snprintf(name, sizeof(name), "file%d", i);
    const int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0) break;
    const ssize_t written = write(fd, block, sizeof(block));
    close(fd);
    if (written > 0) bytes += written;
    if (bytes >> 20 > kMostMegabytes) Escaped("disk");
    if (i > 1000000) Escaped("names");
  }
  printf("%s, %lld MiB\n", strerrorname_np(errno), bytes >> 20);
  return 8;
}

// More than --fsize in one, by everything that makes a file larger; the last one is not survived.
int LargeFile(void) {
  static char block[1 << 20];
  const int fd = open("large", O_RDWR | O_CREAT, 0600);
  if (fd < 0) return 1;
  signal(SIGXFSZ, SIG_IGN);
  printf("%s", ftruncate(fd, 1LL << 40) == 0 ? "no" : strerrorname_np(errno));
  printf(" %s", posix_fallocate(fd, 0, 1LL << 40) == 0 ? "no" : "refused");
  printf(" %s", pwrite(fd, block, sizeof(block), 1LL << 40) > 0 ? "no" : strerrorname_np(errno));
  printf(" %d\n", (int)pwrite(fd, block, sizeof(block), (1 << 20) - 10));
  fflush(stdout);
  signal(SIGXFSZ, SIG_DFL);
  for (int i = 0; i < kMostMegabytes; ++i) (void)!write(fd, block, sizeof(block));
  Escaped("file size");
  return 1;
}

enum { kDepth = 3000 };

// Made and left again name by name: no path is that long. At the bottom nothing may hang or crash.
int DeepDirectory(void) {
  static const char kName[] = "directory";
  static char buffer[1 << 14];
  int depth = 0;
  while (depth < kDepth && mkdir(kName, 0700) == 0 && chdir(kName) == 0) ++depth;
  printf("%d deep", depth);
  if (depth < kDepth) printf(", then %s", strerrorname_np(errno));
  printf("\n");
  if (depth < kDepth) rmdir(kName);  // one that could be made and not entered
  struct stat status;
  const int here = open(".", O_RDONLY | O_DIRECTORY);
  const int file = open("file", O_RDWR | O_CREAT, 0600);
  printf("here %d, file %d, stat %d\n", here >= 0, file >= 0, stat("file", &status));
  printf("getcwd %s\n", getcwd(buffer, sizeof(buffer)) != NULL ? "done" : strerrorname_np(errno));
  printf("rename %d\n", rename("file", "other"));
  printf("unlink %d %d\n", unlink("other"), unlink("file"));
  printf("outside: %s\n", open("/etc/shadow", O_RDONLY) < 0 ? "refused" : "read");
  // A path of nothing but steps up, as long as a path can be.
  for (int i = 0; i + 3 < 4096; i += 3) memcpy(buffer + i, "../", 4);
  printf("up %d\n", stat(buffer, &status));
  if (here >= 0) printf("from here %d\n", fstatat(here, "..", &status, 0));
  while (depth > 0 && chdir("..") == 0 && rmdir(kName) == 0) --depth;
  printf("%d left\n", depth);
  return 0;
}

static void Execute(char** arguments, const char* what) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    execv("/proc/self/exe", arguments);
    printf("%s: %s\n", what, strerrorname_np(errno));
    fflush(stdout);
    _exit(0);
  }
  waitpid(child, NULL, 0);
}

// The output is the native one. `count` arguments of one letter each.
static void ExecuteMany(int count) {
  char what[32];
  snprintf(what, sizeof(what), "%d", count);
  char** const arguments = calloc((size_t)count + 1, sizeof(char*));
  for (int i = 0; i < count; ++i) arguments[i] = (char*)"a";
  Execute(arguments, what);
  free(arguments);
}

static void ExecuteLong(size_t length) {
  char what[32];
  snprintf(what, sizeof(what), "%zu bytes", length);
  char* const text = malloc(length + 1);
  memset(text, 'a', length);
  text[length] = '\0';
  char* arguments[] = {(char*)"abuse", text, text, NULL};
  Execute(arguments, what);
  free(text);
}

int ManyArguments(void) {
  const struct rlimit stack = {8 << 20, RLIM_INFINITY};
  setrlimit(RLIMIT_STACK, &stack);
  ExecuteMany(1000000);
  ExecuteMany(100000);
  ExecuteMany(190000);
  ExecuteLong((128 << 10) - 1);
  ExecuteLong(128 << 10);
  Execute((char**)16, "a bad array");
  char* bad[] = {(char*)"abuse", (char*)16, NULL};
  Execute(bad, "a bad argument");
  return 0;
}
