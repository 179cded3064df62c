// Files, directories, links, times, locks, attributes: the usual calls and their errors.
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "expect.h"

#define SHOW(call)                                                            \
  do {                                                                        \
    errno = 0;                                                                \
    const long result = (long)(call);                                         \
    const int error = result < 0 ? errno : 0;                                 \
    printf("%s = %ld %s\n", #call, result, error ? strerror(error) : "");     \
  } while (0)

// Page 0, and volatile: the compiler knows that nothing can be read there.
static char* volatile unmapped = (char*)16;

static void reading_and_writing(void) {
  int file = open("file", O_RDWR | O_CREAT | O_EXCL, 0640);
  EXPECT(file >= 0);
  SHOW(open("file", O_RDWR | O_CREAT | O_EXCL, 0640));
  SHOW(write(file, "0123456789", 10));
  SHOW(pwrite(file, "abc", 3, 20));
  char buffer[64] = "";
  SHOW(pread(file, buffer, 64, 5));
  EXPECT(memcmp(buffer, "56789\0\0\0\0\0\0\0\0\0\0abc", 18) == 0);
  char first[4] = "", second[8] = "";
  struct iovec parts[2] = {{first, 3}, {second, 7}};
  SHOW(lseek(file, 1, SEEK_SET));
  SHOW(readv(file, parts, 2));
  printf("[%.3s] [%.7s]\n", first, second);
  SHOW(lseek(file, 0, SEEK_END));
  SHOW(writev(file, parts, 2));
  SHOW(pwritev(file, parts, 1, 100));
  SHOW(preadv2(file, parts, 2, 100, 0));
  SHOW(ftruncate(file, 50));
  SHOW(lseek(file, -51, SEEK_END));
  SHOW(lseek(file, 0, SEEK_HOLE));
  SHOW(fallocate(file, FALLOC_FL_KEEP_SIZE, 0, 8192));
  SHOW(fsync(file));
  SHOW(fdatasync(file));
  SHOW(read(file, NULL, 0));
  SHOW(read(-1, buffer, 1));
  EXPECT(lseek(file, 0, SEEK_SET) == 0);
  SHOW(read(file, unmapped, 1));
  SHOW(close(file));
  SHOW(close(file));

  int append = open("file", O_WRONLY | O_APPEND);
  SHOW(write(append, "end\n", 4));
  SHOW(lseek(append, 0, SEEK_CUR));
  SHOW(read(append, buffer, 1));
  EXPECT(close(append) == 0);
}

static void mapping(void) {
  int file = open("mapped", O_RDWR | O_CREAT, 0600);
  EXPECT(file >= 0 && ftruncate(file, 10000) == 0);
  char* shared = mmap(NULL, 10000, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  char* private = mmap(NULL, 10000, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  EXPECT(shared != MAP_FAILED && private != MAP_FAILED);
  strcpy(shared + 4090, "across the pages");
  EXPECT(strcmp(private + 4090, "across the pages") == 0);
  private[4090] = 'A';
  char buffer[32];
  EXPECT(pread(file, buffer, 17, 4090) == 17 && strcmp(buffer, "across the pages") == 0);
  EXPECT(pwrite(file, "WRITTEN", 7, 9000) == 7 && memcmp(shared + 9000, "WRITTEN", 7) == 0);
  SHOW(msync(shared, 10000, MS_SYNC));
  SHOW(msync(shared + 1, 10000, MS_SYNC));
  EXPECT(mremap(shared, 10000, 4096, 0) == shared);
  char* tail = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 8192);
  EXPECT(tail != MAP_FAILED && memcmp(tail + 9000 - 8192, "WRITTEN", 7) == 0 && tail[4095] == 0);
  EXPECT(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 100) == MAP_FAILED && errno == EINVAL);
  int read_only = open("mapped", O_RDONLY);
  EXPECT(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, read_only, 0) == MAP_FAILED);
  printf("shared writable map of a read-only descriptor: %s\n", strerror(errno));
  EXPECT(munmap(shared, 4096) == 0 && munmap(private, 10000) == 0 && munmap(tail, 4096) == 0);
  EXPECT(close(file) == 0 && close(read_only) == 0);
}

static int by_name(const struct dirent** a, const struct dirent** b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void names(void) {
  SHOW(mkdir("folder", 0755));
  SHOW(mkdir("folder", 0755));
  SHOW(rename("mapped", "folder/renamed"));
  SHOW(rename("nothing", "folder/other"));
  SHOW(link("folder/renamed", "hard"));
  SHOW(symlink("folder/renamed", "soft"));
  SHOW(symlink("loop", "loop"));
  SHOW(open("loop", O_RDONLY));
  SHOW(open("soft", O_RDONLY | O_NOFOLLOW));
  SHOW(rmdir("folder"));
  SHOW(unlink("folder"));
  char target[64] = "";
  SHOW(readlink("soft", target, sizeof(target)));
  printf("%s\n", target);
  SHOW(renameat2(AT_FDCWD, "hard", AT_FDCWD, "file", RENAME_NOREPLACE));
  SHOW(renameat2(AT_FDCWD, "hard", AT_FDCWD, "file", RENAME_EXCHANGE));
  int folder = open("folder", O_RDONLY | O_DIRECTORY);
  SHOW(mkdirat(folder, "inner", 0700));
  SHOW(symlinkat("..", folder, "up"));
  SHOW(faccessat(folder, "inner", X_OK, 0));
  SHOW(access("folder/missing", F_OK));
  SHOW(fchdir(folder));
  char directory[PATH_MAX];
  EXPECT(getcwd(directory, sizeof(directory)) != NULL);
  printf("now in %s\n", strrchr(directory, '/'));
  SHOW(chdir(".."));
  struct dirent** entries;
  const int count = scandir("folder", &entries, NULL, by_name);
  for (int i = 0; i < count; ++i) printf("entry %s type %d\n", entries[i]->d_name, entries[i]->d_type);
  for (int i = 0; i < 300; ++i) {
    char name[64];
    snprintf(name, sizeof(name), "folder/inner/a_rather_long_name_%03d", i);
    EXPECT(close(creat(name, 0600)) == 0);
  }
  DIR* stream = opendir("folder/inner");
  int entry_count = 0, sum = 0;
  for (struct dirent* entry; (entry = readdir(stream)) != NULL; ++entry_count) sum += atoi(entry->d_name + (entry->d_name[0] == 'a' ? 19 : 0));
  printf("%d entries, sum %d\n", entry_count, sum);
  EXPECT(closedir(stream) == 0 && close(folder) == 0);
  char long_name[5000];
  memset(long_name, 'x', sizeof(long_name));
  long_name[300] = 0;
  SHOW(open(long_name, O_RDONLY));
  long_name[300] = 'x';
  long_name[4999] = 0;
  SHOW(open(long_name, O_RDONLY));
  SHOW(open("", O_RDONLY));
  SHOW(open(unmapped, O_RDONLY));
}

static void attributes(void) {
  struct stat info;
  EXPECT(stat("file", &info) == 0);
  printf("mode %o links %lu size %ld uid %u\n", info.st_mode, (unsigned long)info.st_nlink, (long)info.st_size, info.st_uid);
  EXPECT(lstat("soft", &info) == 0);
  printf("mode %o size %ld\n", info.st_mode, (long)info.st_size);
  struct statx extended;
  SHOW(statx(AT_FDCWD, "folder", 0, STATX_BASIC_STATS, &extended));
  printf("mode %o mask %d\n", extended.stx_mode, (extended.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
  SHOW(chmod("file", 0604));
  SHOW(fchmodat(AT_FDCWD, "folder", 0711, 0));
  struct timespec times[2] = {{1000000000, 5}, {1100000000, 7}};
  SHOW(utimensat(AT_FDCWD, "file", times, 0));
  EXPECT(stat("file", &info) == 0);
  printf("times %ld %ld %ld %ld\n", info.st_atim.tv_sec, info.st_atim.tv_nsec, info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
  char value[32] = "";
  SHOW(setxattr("file", "user.colour", "blue", 4, 0));
  SHOW(getxattr("file", "user.colour", value, sizeof(value)));
  SHOW(listxattr("file", value, sizeof(value)));
  SHOW(removexattr("file", "user.colour"));
  SHOW(getxattr("file", "user.colour", value, sizeof(value)));
  SHOW(umask(077));
  EXPECT(close(creat("masked", 0666)) == 0 && stat("masked", &info) == 0);
  printf("mode %o\n", info.st_mode);
  struct statvfs system;
  EXPECT(statvfs(".", &system) == 0 && system.f_namemax == 255);
}

static void descriptors(void) {
  int file = open("file", O_RDWR);
  int other = open("file", O_RDWR);
  SHOW(flock(file, LOCK_EX));
  SHOW(flock(other, LOCK_EX | LOCK_NB));
  SHOW(flock(file, LOCK_UN));
  struct flock region = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10};
  SHOW(fcntl(file, F_SETLK, &region));
  SHOW(fcntl(other, F_OFD_SETLK, &region));
  SHOW(fcntl(file, F_GETFL) & O_ACCMODE);
  SHOW(fcntl(file, F_SETFL, O_NONBLOCK));
  SHOW((fcntl(file, F_GETFL) & O_NONBLOCK) != 0);
  SHOW(fcntl(file, F_DUPFD_CLOEXEC, 100));
  SHOW(fcntl(100, F_GETFD));
  SHOW(dup2(file, 50));
  SHOW(dup3(file, 50, O_CLOEXEC));
  SHOW(dup3(file, file, 0));
  SHOW(close(50));
  SHOW(syscall(SYS_close_range, 90, 110, 0));
  SHOW(fcntl(100, F_GETFD));
  int ends[2];
  EXPECT(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
  char byte;
  SHOW(read(ends[0], &byte, 1));
  SHOW(sendfile(ends[1], file, NULL, 4));
  SHOW(read(ends[0], &byte, 1));
  SHOW(fcntl(ends[1], F_GETPIPE_SZ));
  SHOW(close(ends[0]));
  SHOW(lseek(ends[1], 0, SEEK_SET));
  EXPECT(close(ends[1]) == 0 && close(file) == 0 && close(other) == 0);
  FILE* stream = fopen("text", "w+");
  EXPECT(stream != NULL);
  for (int i = 0; i < 20000; ++i) fprintf(stream, "line %d\n", i);
  rewind(stream);
  char line[64];
  int lines = 0;
  while (fgets(line, sizeof(line), stream) != NULL) ++lines;
  printf("%d lines, at %ld\n", lines, ftell(stream));
  EXPECT(fclose(stream) == 0);
  SHOW(open("/dev/null", O_WRONLY | O_DIRECTORY));
  int memory = memfd_create("memory", 0);
  EXPECT(memory >= 0);
  SHOW(ftruncate(memory, 4096));
  SHOW(write(memory, "hidden", 6));
  EXPECT(close(memory) == 0);
}

int main(void) {
  umask(022);
  reading_and_writing();
  mapping();
  names();
  attributes();
  descriptors();
  return 0;
}
