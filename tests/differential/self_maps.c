// What a program finds of itself in /proc: only its own mappings, its own file and command line.
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "expect.h"

static int in_data = 5;
enum { kMostNames = 32 };

static void print_names(char names[][128], int count) {
  // In the order of names, which addresses do not decide.
  qsort(names, (size_t)count, 128, (int (*)(const void*, const void*))strcmp);
  for (int i = 0; i < count; ++i) printf("mapped: %s\n", names[i]);
}

static void maps(const char* path) {
  FILE* file = fopen(path, "r");
  EXPECT(file != NULL);
  char line[4600], names[kMostNames][128];
  int count = 0, found = 0;
  uint64_t last_end = 0, stack_end = 0;
  char* heap = malloc(64);
  int on_stack = 0;
  while (fgets(line, sizeof(line), file) != NULL) {
    unsigned long start, end, offset, inode;
    unsigned major, minor;
    char rights[8], name[4200] = "";
    const int fields = sscanf(line, "%lx-%lx %7s %lx %x:%x %lu %4199[^\n]", &start, &end, rights, &offset, &major, &minor, &inode, name);
    EXPECT(fields >= 7);
    if (start >= 0x800000000000) continue;  // [vsyscall]
    EXPECT(start >= last_end && start < end && ((start | end) & 4095) == 0);
    last_end = end;
    const int special = strncmp(name, "[v", 2) == 0;
    // The stack is a program's highest mapping: what lies above, but the kernel's, is not ours.
    EXPECT(stack_end == 0 || special);
    if (strcmp(name, "[stack]") == 0) stack_end = end;
    const struct {
      const void* address;
      const char* rights;
      const char* name;
    } wanted[] = {{(void*)(uintptr_t)&maps, "r-xp", NULL}, {&in_data, "rw-p", NULL}, {&on_stack, "rw-p", "[stack]"}, {heap, "rw-p", "[heap]"}};
    for (int i = 0; i < 4; ++i) {
      if ((uint64_t)wanted[i].address - start >= end - start) continue;
      EXPECT(strcmp(rights, wanted[i].rights) == 0);
      EXPECT(wanted[i].name == NULL || strcmp(name, wanted[i].name) == 0);
      found |= 1 << i;
    }
    if (name[0] != '/') continue;
    const char* base = strrchr(name, '/') + 1;
    int known = 0;
    for (int i = 0; i < count; ++i) known |= strcmp(names[i], base) == 0;
    if (!known && count < kMostNames) snprintf(names[count++], 128, "%.127s", base);
  }
  fclose(file);
  free(heap);
  EXPECT(found == 15);
  EXPECT(stack_end != 0);
  print_names(names, count);
}

// A name with the end of a line in it does not end the line, so nobody can make a program see mappings that are not there.
static void odd_name(void) {
  static const char kName[] = "two\n10000-20000 rwxp 00000000 00:00 0 lines";
  const int file = open(kName, O_RDWR | O_CREAT, 0600);
  EXPECT(file >= 0 && ftruncate(file, 4096) == 0);
  void* const mapping = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
  EXPECT(mapping != MAP_FAILED);
  FILE* maps = fopen("/proc/self/maps", "r");
  EXPECT(maps != NULL);
  char line[4600];
  while (fgets(line, sizeof(line), maps) != NULL) {
    const char* const name = strstr(line, "/two");
    if (name != NULL) printf("odd:%s", name);
    EXPECT(strncmp(line, "10000-", 6) != 0);
  }
  fclose(maps);
  EXPECT(munmap(mapping, 4096) == 0 && close(file) == 0 && unlink(kName) == 0);
}

static void print_file(const char* path) {
  char text[4096];
  int file = open(path, O_RDONLY);
  EXPECT(file >= 0);
  const ssize_t bytes = read(file, text, sizeof(text));
  EXPECT(bytes > 0 && close(file) == 0);
  for (ssize_t i = 0; i < bytes; ++i) {
    if (text[i] == 0) text[i] = '|';
  }
  printf("%s: %.*s\n", path, (int)bytes, text);
}

int main(int argc, char** argv) {
  (void)argc;
  maps("/proc/self/maps");
  odd_name();
  maps("/proc/thread-self/maps");
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/maps", getpid());
  maps(path);

  char target[PATH_MAX] = "";
  EXPECT(readlink("/proc/self/exe", target, sizeof(target) - 1) > 0);
  printf("exe: %s\n", target);
  struct stat linked, named;
  EXPECT(stat(argv[0], &named) == 0);
  int self = open("/proc/self/exe", O_RDONLY);
  char header[4];
  EXPECT(self >= 0 && fstat(self, &linked) == 0 && linked.st_ino == named.st_ino);
  EXPECT(read(self, header, 4) == 4 && memcmp(header, "\x7f" "ELF", 4) == 0);
  print_file("/proc/self/cmdline");
  print_file("/proc/self/comm");
  return 0;
}
