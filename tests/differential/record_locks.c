// Record locks stay until the program itself closes the file. Natively no other call touches them; the sandbox opens and closes
// things of its own on the way, and every close of a file releases its locks. Closing is done last, to see that it still does.
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "expect.h"

static const char loader[] = "/lib64/ld-linux-x86-64.so.2";
static const char* const files[] = {"data", "copy", "script", "text", loader};
enum { kFiles = 5, kFirst = 100 };

static int locked(const char* name) {
  const int fd = open(name, O_RDONLY);
  EXPECT(fd >= 0);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
  EXPECT(fcntl(fd, F_GETLK, &lock) == 0);
  return lock.l_type == F_RDLCK;
}

static void lock_all(void) {
  for (int i = 0; i < kFiles; ++i) {
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 10};
    EXPECT(fcntl(kFirst + i, F_SETLK, &lock) == 0);
  }
}

// Another process looks. What is lost is taken again, so that the next step is on its own.
static void look(const char* after) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < kFiles; ++i) {
      if (!locked(files[i])) printf("after %s: %s is not locked\n", after, files[i]);
    }
    fflush(stdout);
    _exit(0);
  }
  int status;
  EXPECT(waitpid(child, &status, 0) == child && status == 0);
  printf("looked after %s\n", after);
  fflush(stdout);
  lock_all();
}

static void copy(const char* from, const char* to) {
  const int in = open(from, O_RDONLY);
  const int out = open(to, O_CREAT | O_WRONLY | O_TRUNC, 0755);
  struct stat status;
  EXPECT(in >= 0 && out >= 0 && fstat(in, &status) == 0);
  EXPECT(sendfile(out, in, NULL, (size_t)status.st_size) == status.st_size);
  close(in);
  close(out);
}

static void write_file(const char* name, const char* text) {
  const int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0755);
  EXPECT(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
  close(fd);
}

static void open_and_lock(void) {
  for (int i = 0; i < kFiles; ++i) {
    const int fd = open(files[i], O_RDONLY);
    EXPECT(fd >= 0 && dup2(fd, kFirst + i) == kFirst + i);
    close(fd);
  }
  lock_all();
}

static void maps(void) {
  for (int i = 0; i < kFiles; ++i) {
    void* shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED, kFirst + i, 0);
    void* private = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, kFirst + i, 0);
    EXPECT(shared != MAP_FAILED && private != MAP_FAILED);
    EXPECT(memcmp(shared, private, 10) == 0);
    munmap(shared, 4096);
    munmap(private, 4096);
  }
  look("mmap");
}

static void names(void) {
  struct stat status;
  for (int i = 0; i < kFiles; ++i) {
    EXPECT(stat(files[i], &status) == 0 && lstat(files[i], &status) == 0 && access(files[i], R_OK) == 0);
    getxattr(files[i], "user.none", NULL, 0);
    char link[64], text[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", kFirst + i);
    EXPECT(stat(link, &status) == 0 && readlink(link, text, sizeof(text)) > 0);
    snprintf(link, sizeof(link), "/proc/self/fdinfo/%d", kFirst + i);
    const int info = open(link, O_RDONLY);
    EXPECT(info >= 0 && read(info, text, sizeof(text)) > 0);
    close(info);
  }
  look("stat and readlink");
  EXPECT(chmod("data", 0640) == 0 && fchmodat(AT_FDCWD, "data", 0600, 0) == 0);
  EXPECT(chown("data", (uid_t)-1, (gid_t)-1) == 0 && utimensat(AT_FDCWD, "data", NULL, 0) == 0);
  EXPECT(truncate("data", 8192) == 0);
  EXPECT(link("data", "other") == 0 && rename("other", "another") == 0 && unlink("another") == 0);
  EXPECT(open("data", O_RDONLY | O_DIRECTORY) < 0 && open("data", O_CREAT | O_EXCL | O_RDWR, 0600) < 0);
  look("chmod and truncate");
  for (int i = 0; i < kFiles; ++i) {
    const int fd = open(files[i], O_PATH);
    EXPECT(fd >= 0 && close(fd) == 0);
  }
  close(open("/proc/self/exe", O_PATH));
  EXPECT(stat("/proc/self/exe", &status) == 0 && open("/proc/self/exe", O_WRONLY) < 0);
  look("O_PATH");
  char text[4096];
  const char* const views[] = {"/proc/self/maps", "/proc/self/stat", "/proc/self/cmdline", "/proc/locks"};
  for (int i = 0; i < 4; ++i) {
    const int fd = open(views[i], O_RDONLY);
    EXPECT(fd >= 0 && read(fd, text, sizeof(text)) >= 0);
    close(fd);
  }
  look("views of procfs");
}

static void executes(void) {
  char* const arguments[] = {"copy", "nothing", NULL};
  for (int i = 0; i < kFiles - 1; ++i) {
    pid_t child;
    int status;
    if (posix_spawn(&child, files[i], NULL, NULL, arguments, NULL) == 0) EXPECT(waitpid(child, &status, 0) == child);
  }
  look("executing in a child");
  for (int i = 0; i < 2; ++i) {
    EXPECT(execv("text", arguments) == -1 && errno == ENOEXEC);
    EXPECT(fexecve(kFirst + 3, arguments, environ) == -1 && errno == ENOEXEC);
    EXPECT(execv("data", arguments) == -1 && errno == EACCES);
  }
  look("execve that failed");
}

static void sends(void) {
  int pair[2];
  EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  // More than fits, with a descriptor: all of it goes, and the descriptor once.
  enum { kBytes = 4 << 20 };
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    close(pair[0]);
    char* bytes = malloc(kBytes);
    long total = 0;
    int descriptors = 0;
    for (;;) {
      union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } control;
      struct iovec part = {bytes, kBytes};
      struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
      const ssize_t got = recvmsg(pair[1], &message, 0);
      if (got <= 0) break;
      total += got;
      descriptors += CMSG_FIRSTHDR(&message) != NULL;
    }
    printf("received %ld bytes and %d descriptors\n", total, descriptors);
    fflush(stdout);
    _exit(0);
  }
  close(pair[1]);
  for (int i = 0; i < 2; ++i) {
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } control = {
        .header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    const int passed = kFirst;
    memcpy(CMSG_DATA(&control.header), &passed, sizeof(passed));
    struct iovec parts[2] = {{calloc(1, kBytes / 2), kBytes / 2}, {calloc(1, kBytes / 2), kBytes / 2}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control)};
    EXPECT(sendmsg(pair[0], &message, 0) == kBytes);
  }
  close(pair[0]);
  int status;
  EXPECT(waitpid(child, &status, 0) == child);
  look("sending");
}

int main(int count, char** arguments) {
  if (count > 1 && strcmp(arguments[1], "nothing") == 0) return 0;
  if (count > 1 && strcmp(arguments[count - 1], "again") == 0) {
    look("execve");
    char* const script[] = {"script", "third", NULL};
    execv("script", script);
    EXPECT(!"the script runs");
  }
  if (count > 2) {
    look("execve of a script");
    char* const last[] = {"copy", "last", NULL};
    fexecve(kFirst + 1, last, environ);
    EXPECT(!"the program runs");
  }
  if (count > 1) {
    look("fexecve");
    close(open("data", O_RDONLY));
    look("closing data");
    return 0;
  }
  write_file("data", "some data that is long enough\n");
  EXPECT(chmod("data", 0644) == 0 && truncate("data", 16384) == 0);
  write_file("script", "#!./copy\n");
  write_file("text", "no program at all\n");
  copy("/proc/self/exe", "copy");
  open_and_lock();
  look("locking");
  maps();
  names();
  executes();
  sends();
  fflush(stdout);
  char* const again[] = {"copy", "again", NULL};
  execv("copy", again);
  return 1;
}
