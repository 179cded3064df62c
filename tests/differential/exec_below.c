// execveat: programs, scripts and links below a directory's descriptor and by their own, with descriptors that the next
// program has and with such that it has not.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

static void try_to(const char* what, int directory, const char* path, int flags) {
  char* const arguments[] = {"name", "ran", NULL};
  char* const environment[] = {NULL};
  printf("%s: ", what);
  fflush(stdout);
  const pid_t child = fork();
  EXPECT(child >= 0);
  if (child == 0) {
    syscall(SYS_execveat, directory, path, arguments, environment, flags);
    printf("%s\n", strerror(errno));
    fflush(stdout);
    _exit(1);
  }
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child);
  EXPECT(WIFEXITED(status));
}

static void try_all(int flags) {
  const int here = open("here", O_PATH | O_DIRECTORY | flags);
  const int programs = open("/usr/bin", O_PATH | O_DIRECTORY | flags);
  const int self = open("/proc/self", O_PATH | O_DIRECTORY | flags);
  const int script = open("here/script", O_RDONLY | flags);
  const int echo = open("/usr/bin/echo", O_PATH | flags);
  EXPECT(here >= 0 && programs >= 0 && self >= 0 && script >= 0 && echo >= 0);
  try_to("program", programs, "echo", 0);
  try_to("script", here, "script", 0);
  try_to("link to it", here, "to_script", 0);
  try_to("link itself", here, "to_script", AT_SYMLINK_NOFOLLOW);
  try_to("link elsewhere", here, "to_echo", 0);
  try_to("absolute path", programs, "/usr/bin/echo", 0);
  try_to("own program", self, "exe", 0);
  try_to("script by itself", script, "", AT_EMPTY_PATH);
  try_to("program by itself", echo, "", AT_EMPTY_PATH);
  try_to("nothing", here, "nothing", 0);
  try_to("directory", here, ".", 0);
  try_to("below a file", script, "x", 0);
  try_to("no descriptor", 999, "x", 0);
}

int main(int argc, char** argv) {
  (void)argv;
  if (argc > 1) {
    printf("this one again\n");
    return 0;
  }
  EXPECT(mkdir("here", 0755) == 0);
  const int script = open("here/script", O_CREAT | O_WRONLY, 0755);
  EXPECT(write(script, "#!/usr/bin/echo script\n", 23) == 23);
  close(script);
  EXPECT(symlink("script", "here/to_script") == 0 && symlink("/usr/bin/echo", "here/to_echo") == 0);
  try_all(0);
  try_all(O_CLOEXEC);
  return 0;
}
