// Files that were not given: by another path, by another moment, by a descriptor, as a program.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attack.h"

// ---- Races --------------------------------------------------------------------------------------

static char changing_path[512];
static char* changing_part;

static void change_path(void) {
  memcpy(changing_part, "secret/canary", 14);
  stay_a_moment();
  memcpy(changing_part, "given//canary", 14);
  stay_a_moment();
}

static void path_race(void) {
  snprintf(changing_path, sizeof(changing_path), "%s/", work);
  changing_part = changing_path + strlen(changing_path);
  change_path();
  begin_race(change_path);
  while (still_racing()) must_not_read("a path that changes", AT_FDCWD, changing_path);
  end_race();
}

static void exchange(void) {
  static char link[512], directory[512];
  if (link[0] == 0) {
    snprintf(link, sizeof(link), "%s/given/link", work);
    snprintf(directory, sizeof(directory), "%s/given/directory", work);
  }
  renameat2(AT_FDCWD, link, AT_FDCWD, directory, RENAME_EXCHANGE);
}

static void link_race(void) {
  unlink(in_work("given/link"));
  if (symlink("../secret", in_work("given/link")) != 0) return hole("no link to swap: %d", errno);
  mkdir(in_work("given/directory"), 0777);
  close(open(in_work("given/directory/canary"), O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
  begin_race(exchange);
  while (still_racing()) {
    must_not_read("a directory that becomes a link", AT_FDCWD, in_work("given/directory/canary"));
    const int file = open(in_work("given/directory/made"), O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
    if (file >= 0) close(file);  // `run` sees it where it may not be
  }
  end_race();
}

// What is opened for reading only comes under every number that could be the one which is just being looked at: the lowest
// that are free, and the highest that there may be.
static int only_read;

static void replace_numbers(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  const int highest = (int)limit.rlim_cur - 1;
  for (int i = 0; i < 4; ++i) {
    const int number = i == 3 ? highest : only_read + 1 + i;
    dup2(only_read, number);
    stay_a_moment();
    close(number);
  }
}

static void number_race(void) {
  struct stat wanted, got;
  only_read = open(in_work("read/canary"), O_PATH | O_CLOEXEC);
  if (only_read < 0 || fstat(only_read, &wanted) != 0) return hole("no file to put there: %d", errno);
  begin_race(replace_numbers);
  while (still_racing()) {
    const int file = open(in_work("given/canary"), O_RDWR | O_CLOEXEC);
    // The racer may have closed it, and opened another: what counts is what is there, and how.
    if (file < 0 || fstat(file, &got) != 0) continue;
    const int flags = fcntl(file, F_GETFL);
    if (flags >= 0 && (flags & O_PATH) == 0 && (flags & O_ACCMODE) == O_RDWR && got.st_ino == wanted.st_ino) {
      hole("a file that may only be read is open for writing");
    }
    close(file);
  }
  end_race();
}

// ---- Names --------------------------------------------------------------------------------------

static void dots(void) {
  const int given = open(in_work("given"), O_PATH | O_DIRECTORY | O_CLOEXEC);
  must_not_read("..", given, "../secret/canary");
  must_not_read("a path with ..", AT_FDCWD, in_work("given/../secret/canary"));
  must_not_read("many ..", given, "../../../../../../../../../../../../etc/shadow");
  if (fchdir(given) == 0) must_not_read(".. from here", AT_FDCWD, "../secret/canary");
  must_not_read("a name", AT_FDCWD, in_work("secret/canary"));
  refused("a directory of secrets", open(in_work("secret"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  refused("its attributes", truncate(in_work("secret/canary"), 0));
  if (chdir(in_work("secret")) == 0) must_not_read("there", AT_FDCWD, "canary");
}

static void other_names(void) {
  refused("a link to a secret", link(in_work("secret/canary"), in_work("given/hard")));
  refused("a secret renamed", rename(in_work("secret/canary"), in_work("given/moved")));
  refused("a secret exchanged", renameat2(AT_FDCWD, in_work("secret/canary"), AT_FDCWD,
                                          in_work("given/canary"), RENAME_EXCHANGE));
  refused("a secret removed", unlink(in_work("secret/canary")));
  refused("a file made there", open(in_work("secret/made"), O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
  refused("a file made where it reads", open(in_work("read/made"), O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
  refused("a write where it reads", open(in_work("read/canary"), O_WRONLY | O_CLOEXEC));
  refused("a truncation by open", open(in_work("read/canary"), O_RDONLY | O_TRUNC | O_CLOEXEC));
  refused("a mode where it reads", chmod(in_work("read/canary"), 0777));
  must_not_read("a mode and an open", AT_FDCWD,
                chmod(in_work("secret/canary"), 0666) == 0 ? in_work("secret/canary") : "/nowhere");
}

static void magic_links(void) {
  char path[600];
  snprintf(path, sizeof(path), "/proc/self/root%s", in_work("secret/canary"));
  must_not_read("/proc/self/root", AT_FDCWD, path);
  snprintf(path, sizeof(path), "/proc/thread-self/root%s", in_work("secret/canary"));
  must_not_read("/proc/thread-self/root", AT_FDCWD, path);
  if (chdir(in_work("given")) == 0) must_not_read("/proc/self/cwd", AT_FDCWD, "/proc/self/cwd/../secret/canary");
  const int secret = open(in_work("secret/canary"), O_PATH | O_CLOEXEC);
  snprintf(path, sizeof(path), "/proc/self/fd/%d", secret);
  must_not_read("a pinned secret", AT_FDCWD, path);
  must_not_read("a pinned secret, empty path", secret, "");
  char exe[512] = {0};
  refused("its own program to write", open("/proc/self/exe", O_RDWR | O_CLOEXEC));
  if (readlink("/proc/self/exe", exe, sizeof(exe) - 1) <= 0 || strstr(exe, "/attacks") == NULL) {
    hole("/proc/self/exe is %s", exe);
  }
}

// ---- Descriptors --------------------------------------------------------------------------------

// `run` has left these open.
enum { kSecretDirectory = 7, kReadOnlyFile = 8, kSocketWithSecret = 9 };

static void inherited_descriptors(void) {
  must_not_read("an inherited directory", kSecretDirectory, "canary");
  must_not_read("its number", AT_FDCWD, "/proc/self/fd/7/canary");
  if (fchdir(kSecretDirectory) == 0) must_not_read("from there", AT_FDCWD, "canary");
  refused("more rights", open("/proc/self/fd/8", O_RDWR | O_CLOEXEC));
  refused("its size", ftruncate(kReadOnlyFile, 0));
  refused("its mode", fchmod(kReadOnlyFile, 0777));
}

static void passed_descriptor(void) {
  char byte;
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr header;
  } control;
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
  if (recvmsg(kSocketWithSecret, &message, MSG_CMSG_CLOEXEC) != 1) {
    if (errno != EACCES && errno != EPERM) hole("nothing was received: %d", errno);
    return;
  }
  const struct cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header == NULL) return;
  int directory;
  memcpy(&directory, CMSG_DATA(header), sizeof(directory));
  must_not_read("a directory that was passed", directory, "canary");
  if (fchdir(directory) == 0) must_not_read("from there", AT_FDCWD, "canary");
}

// `run` starts it in the directory of secrets.
static void left_directory(void) {
  must_not_read("where it was started", AT_FDCWD, "canary");
  must_not_read("by /proc", AT_FDCWD, "/proc/self/cwd/canary");
  const int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  must_not_read("pinned", here, "canary");
}

// ---- Programs -----------------------------------------------------------------------------------

static const char* program;
static void execute_program(void) {
  execl(program, program, "dots", work, "1", "0", "0", NULL);
  _exit(errno == EACCES || errno == ENOENT || errno == EPERM ? 100 : 101);
}

// What it prints is of interest, not how it ends.
static int copy_of_this(int to) {
  char bytes[65536];
  const int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ssize_t got;
  while ((got = read(from, bytes, sizeof(bytes))) > 0) {
    if (write(to, bytes, (size_t)got) != got) return -1;
  }
  close(from);
  return (int)got;
}

static void memory_program(void) {
  const int file = memfd_create("program", 0);
  if (file < 0 || copy_of_this(file) != 0) return hole("no program in memory: %d", errno);
  static char path[64];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
  program = path;
  const int status = status_of_child(execute_program);
  if (!WIFEXITED(status)) return hole("ended with %x", (unsigned)status);
  // 0: it ran, tried `dots` and got nowhere.
  if (WEXITSTATUS(status) == 1) hole("it read what it may not");
  if (WEXITSTATUS(status) == 0) contained("the sandbox it was started in");
}

static void denied_program(void) {
  program = in_work("secret/program");
  if (WEXITSTATUS(status_of_child(execute_program)) != 100) hole("a program that may not be read ran");
  const int pinned = open(program, O_PATH | O_CLOEXEC);
  char* const arguments[] = {"program", NULL};
  const pid_t child = fork();
  if (child == 0) {
    syscall(SYS_execveat, pinned, "", arguments, arguments + 1, AT_EMPTY_PATH);
    _exit(100);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WEXITSTATUS(status) != 100) hole("pinned, it ran");
}

static void tell_ids(void) {
  uid_t real, effective, saved;
  getresuid(&real, &effective, &saved);
  _exit(real == effective && effective == saved ? 0 : 1);
}

// given/set_user_id is a copy of this program with the bit.
static void set_user_id(void) {
  struct stat before;
  if (stat(in_work("given/set_user_id"), &before) != 0) return hole("there is no such program: %d", errno);
  const uid_t own = geteuid();
  const pid_t child = fork();
  if (child == 0) {
    char text[16];
    snprintf(text, sizeof(text), "%u", own);
    execl(in_work("given/set_user_id"), "set_user_id", "own_ids", work, text, "0", "0", NULL);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) hole("it has another id: %x", (unsigned)status);
  if (WEXITSTATUS(status_of_child(tell_ids)) != 0) hole("ids differ");
}

static void own_ids(void) {
  if (geteuid() != (uid_t)bystander || getuid() != geteuid()) hole("id %u, not %d", geteuid(), bystander);
}

static void script_depth(void) {
  char path[64], text[600];
  for (int i = 0; i < 7; ++i) {
    snprintf(path, sizeof(path), "given/script%d", i);
    snprintf(text, sizeof(text), "#!%s/given/script%d\n", work, i + 1);
    const int file = open(in_work(path), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0777);
    if (file < 0 || write(file, text, strlen(text)) < 0) return hole("no script: %d", errno);
    close(file);
  }
  const pid_t child = fork();
  if (child == 0) {
    execl(in_work("given/script0"), "script0", NULL);
    _exit(errno == ELOOP || errno == ENOEXEC || errno == ENOENT || errno == EACCES ? 100 : 101);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WEXITSTATUS(status) != 100) hole("seven scripts: %x", (unsigned)status);
}

// ---- The report ---------------------------------------------------------------------------------

// `run` looks at standard error: no escape sequence, and a bounded number of lines.
static void hostile_names(void) {
  char path[256];
  for (int i = 0; i < 3000; ++i) {
    snprintf(path, sizeof(path), "%s/secret/\x1b]0;owned\x07\x1b[2J\n\r\x9b%d", work, i);
    must_not_read("no such file", AT_FDCWD, path);
    refused("a file with a hostile name", open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
  }
}

const struct attack file_attacks[] = {
    {"path_race", path_race},
    {"link_race", link_race},
    {"number_race", number_race},
    {"dots", dots},
    {"other_names", other_names},
    {"magic_links", magic_links},
    {"inherited_descriptors", inherited_descriptors},
    {"passed_descriptor", passed_descriptor},
    {"left_directory", left_directory},
    {"memory_program", memory_program},
    {"denied_program", denied_program},
    {"set_user_id", set_user_id},
    {"own_ids", own_ids},
    {"script_depth", script_depth},
    {"hostile_names", hostile_names},
    {NULL, NULL},
};
