// What a program finds behind /proc/self/exe and its like with every kind of call that takes a path: its own file, however the
// path leads there, and also when the file has been renamed or removed.
#include <fcntl.h>
#include <linux/stat.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#include "expect.h"

static struct stat own;

static int is_own(const struct stat* status) { return status->st_dev == own.st_dev && status->st_ino == own.st_ino; }

static void look(const char* path) {
  struct stat status;
  EXPECT(stat(path, &status) == 0 && is_own(&status));
  EXPECT(fstatat(AT_FDCWD, path, &status, 0) == 0 && is_own(&status));
  EXPECT(lstat(path, &status) == 0 && S_ISLNK(status.st_mode));
  EXPECT(fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode));
  struct statx extended;
  EXPECT(statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &extended) == 0 && extended.stx_ino == own.st_ino);
  EXPECT(access(path, R_OK | X_OK) == 0 && faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0);
  struct statfs here, there;
  EXPECT(statfs(path, &there) == 0 && statfs(".", &here) == 0 && here.f_type == there.f_type);
  char list[256];
  EXPECT(listxattr(path, list, sizeof(list)) >= 0 || errno == ENOTSUP);
  int watcher = inotify_init1(IN_CLOEXEC);
  EXPECT(inotify_add_watch(watcher, path, IN_ATTRIB) >= 0);
  close(watcher);
  EXPECT(chdir(path) == -1 && errno == ENOTDIR);
}

static void change(const char* path, mode_t mode) {
  struct stat status;
  EXPECT(chmod(path, mode) == 0 && stat("copy", &status) == 0 && (status.st_mode & 07777) == mode);
  EXPECT(fchmodat(AT_FDCWD, path, mode | 0100, 0) == 0 && stat("copy", &status) == 0 && (status.st_mode & 0100) != 0);
  EXPECT(chown(path, getuid(), getgid()) == 0 && fchownat(AT_FDCWD, path, -1, -1, 0) == 0);
  struct utimbuf seconds = {mode, mode};
  EXPECT(utime(path, &seconds) == 0 && stat("copy", &status) == 0 && status.st_mtime == (time_t)mode);
  struct timespec times[2] = {{7, 0}, {mode + 1, 0}};
  EXPECT(utimensat(AT_FDCWD, path, times, 0) == 0 && stat("copy", &status) == 0 && status.st_mtime == (time_t)mode + 1);
  if (setxattr(path, "user.own_paths", "x", 1, 0) == 0) {
    EXPECT(getxattr("copy", "user.own_paths", NULL, 0) == 1);
    EXPECT(removexattr(path, "user.own_paths") == 0);
  } else {
    EXPECT(errno == ENOTSUP || errno == EPERM);
  }
  EXPECT(truncate(path, 0) == -1 && errno == ETXTBSY);
  EXPECT(open(path, O_WRONLY) == -1 && errno == ETXTBSY);
  EXPECT(open(path, O_RDWR | O_CREAT, 0600) == -1 && errno == ETXTBSY);
  int readable = open(path, O_RDONLY);
  EXPECT(readable >= 0 && fstat(readable, &status) == 0 && is_own(&status));
  close(readable);
}

// Of the line in /proc/self/stat, the fields from the third on.
static void read_status(unsigned long long fields[64]) {
  char line[4096];
  FILE* file = fopen("/proc/self/stat", "r");
  EXPECT(file != NULL && fgets(line, sizeof(line), file) != NULL);
  fclose(file);
  char* next = strrchr(line, ')') + 4;  // blank, state, blank
  int field = 4;
  for (char* word = strtok(next, " \n"); word != NULL; word = strtok(NULL, " \n")) fields[field++] = strtoull(word, NULL, 10);
  EXPECT(field == 53);
}

static void links(void) {
  EXPECT(symlink("/proc/self/exe", "absolute") == 0 && symlink("absolute", "relative") == 0);
  look("/proc/self/exe");
  look("/proc/thread-self/exe");
  look("absolute");
  look("relative");
  int proc = open("/proc/self", O_PATH | O_DIRECTORY);
  struct stat status;
  EXPECT(fstatat(proc, "exe", &status, 0) == 0 && is_own(&status));
  EXPECT(fstatat(proc, "task/../exe", &status, 0) == 0 && is_own(&status));
  close(proc);
}

static void other_process(void) {
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/exe", getpid());
  pid_t child = fork();
  if (child == 0) {
    struct stat status;
    char text[256], expected[256];
    ssize_t size = readlink(path, text, sizeof(text));
    _exit(stat(path, &status) == 0 && is_own(&status) && size > 0 && size == readlink("/proc/self/exe", expected, sizeof(expected)) &&
                  memcmp(text, expected, (size_t)size) == 0
              ? 0
              : 1);
  }
  int ended;
  EXPECT(waitpid(child, &ended, 0) == child && ended == 0);
}

static void names(void) {
  struct stat status;
  EXPECT(linkat(AT_FDCWD, "/proc/self/exe", AT_FDCWD, "second", AT_SYMLINK_FOLLOW) == 0);
  EXPECT(stat("second", &status) == 0 && is_own(&status));
  EXPECT(link("/proc/self/exe", "third") == -1 && errno == EXDEV);
  EXPECT(rename("/proc/self/exe", "third") == -1);
  EXPECT(unlink("/proc/self/exe") == -1);
  EXPECT(rename("copy", "moved") == 0);
  char text[512] = "";
  EXPECT(readlink("/proc/self/exe", text, sizeof(text) - 1) > 0 && strcmp(strrchr(text, '/'), "/moved") == 0);
  EXPECT(stat("/proc/self/exe", &status) == 0 && is_own(&status));
  EXPECT(unlink("moved") == 0 && unlink("second") == 0);
  memset(text, 0, sizeof(text));
  EXPECT(readlink("/proc/self/exe", text, sizeof(text) - 1) > 0);
  printf("removed: %s\n", strrchr(text, '/') + 1);
  EXPECT(stat("/proc/self/exe", &status) == 0 && is_own(&status) && status.st_nlink == 0);
}

static int run_copy(void) {
  EXPECT(stat("copy", &own) == 0);
  links();
  change("/proc/self/exe", 0711);
  change("relative", 0751);
  other_process();
  names();
  unsigned long long fields[64] = {0};
  read_status(fields);
  unsigned long long local = (unsigned long long)fields;
  EXPECT(fields[28] > local && fields[28] - local < (8u << 20));
  EXPECT(fields[29] == 0 && fields[30] == 0);
  printf("the program's own file, everywhere\n");
  return 0;
}

int main(int argc, char** argv) {
  if (argc > 1) return run_copy();
  char command[600];
  char self[512] = "";
  EXPECT(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
  snprintf(command, sizeof(command), "cp '%s' copy", self);
  EXPECT(system(command) == 0);
  execl("./copy", argv[0], "copied", NULL);
  EXPECT(!"execl");
}
