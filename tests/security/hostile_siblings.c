// A thread that interferes with the descriptors which the runtime has under ordinary numbers for a moment, while its
// sibling makes the calls that need one.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "contain.h"

enum { kSeconds = 3, kNumbers = 3, kChroots = 200 };
enum status { kHarmless = 0, kRefused = 3, kGotIn = 9 };

static int lowest;  // number that is free
static int proc;    // its root directory

// Forges what execve hands over to the next runtime: the session's rules among it.
static void* forge_files(void* unused) {
  (void)unused;
  for (;;) {
    for (int fd = lowest; fd < lowest + kNumbers; ++fd) {
      lseek(fd, 8, SEEK_SET);
      pwrite(fd, "\1\2\3\4", 4, 16);
    }
  }
  return NULL;
}

// Puts a directory where something else was.
static void* put_directory(void* unused) {
  (void)unused;
  for (;;) {
    for (int fd = lowest; fd < lowest + kNumbers; ++fd) {
      if (fcntl(fd, F_GETFD) >= 0) dup2(proc, fd);
    }
  }
  return NULL;
}

static void start_sibling(void* (*body)(void*)) {
  lowest = dup(0);
  close(lowest);
  pthread_t thread;
  pthread_create(&thread, NULL, body, NULL);
}

static void execute(int round) {
  start_sibling(forge_files);
  usleep((useconds_t)(round % 5 * 300));
  execl("/proc/self/exe", "hostile_siblings", "executed", NULL);
  _exit(kRefused);
}

// Without a privilege the call fails, but only after it has tried.
static void change_root(int round) {
  (void)round;
  proc = open("/proc", O_RDONLY | O_DIRECTORY);
  start_sibling(put_directory);
  for (int i = 0; i < kChroots; ++i) {
    chroot("/");
    if (open("/self/mem", O_RDONLY) >= 0) _exit(kGotIn);
    close_range((unsigned)lowest, (unsigned)lowest + kNumbers, 0);
  }
  _exit(kHarmless);
}

static void try_often(void (*attack)(int round), const char* name) {
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  int round = 0;
  do {
    const pid_t child = fork();
    if (child == 0) attack(round);
    int status = 0;
    waitpid(child, &status, 0);
    const int fine = WIFEXITED(status) && (WEXITSTATUS(status) == kHarmless || WEXITSTATUS(status) == kRefused);
    contain_check(fine, name, status);
    if (!fine) return;
    ++round;
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec - start.tv_sec < kSeconds);
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "executed") == 0) return kHarmless;
  setvbuf(stdout, NULL, _IONBF, 0);
  try_often(execute, "a forged session");
  try_often(change_root, "a directory in the root's place");
  contain_alive("hostile siblings");
  return contain_verdict("hostile_siblings");
}
