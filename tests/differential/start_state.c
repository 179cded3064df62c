// What a program is given at its start: arguments, environment, auxiliary vector, aligned stack, initialised data, TLS, stdio.
#include <elf.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "expect.h"

extern char** environ;
static _Thread_local int thread_number = 41;
static int initialised[3] = {1, 2, 3};
static char zeroed[300000];
static int constructed;

__attribute__((constructor)) static void construct(void) { constructed = 1; }

static void auxiliary(const char* name, unsigned long type) {
  printf("%s %lu\n", name, getauxval(type));
}

static void auxiliary_present(const char* name, unsigned long type) {
  printf("%s %s\n", name, getauxval(type) != 0 ? "present" : "absent");
}

int main(int argc, char** argv) {
  for (int i = 0; i < argc; ++i) printf("argument %d [%s]\n", i, argv[i]);
  EXPECT(argv[argc] == NULL);
  for (char** entry = environ; *entry != NULL; ++entry) printf("environment [%s]\n", *entry);

  auxiliary("page size", AT_PAGESZ);
  auxiliary("clock ticks", AT_CLKTCK);
  auxiliary("program header size", AT_PHENT);
  auxiliary("program headers", AT_PHNUM);
  auxiliary("flags", AT_FLAGS);
  auxiliary("uid", AT_UID);
  auxiliary("effective uid", AT_EUID);
  auxiliary("gid", AT_GID);
  auxiliary("effective gid", AT_EGID);
  auxiliary("secure", AT_SECURE);
  auxiliary("hardware capabilities", AT_HWCAP);
  printf("hardware capabilities 2: fsgsbase %lu\n", getauxval(AT_HWCAP2) & 2);
  auxiliary_present("interpreter base", AT_BASE);
  auxiliary_present("vdso", AT_SYSINFO_EHDR);
  printf("platform %s\n", (const char*)getauxval(AT_PLATFORM));
  printf("file name %s\n", (const char*)getauxval(AT_EXECFN));

  const Elf64_Phdr* headers = (const Elf64_Phdr*)getauxval(AT_PHDR);
  for (unsigned long i = 0; i < getauxval(AT_PHNUM); ++i) {
    if (headers[i].p_type == PT_TLS) printf("TLS of %lu bytes\n", headers[i].p_memsz);
  }
  const unsigned char* random = (const unsigned char*)getauxval(AT_RANDOM);
  int nonzero = 0;
  for (int i = 0; i < 16; ++i) nonzero += random[i] != 0;
  EXPECT(nonzero > 4);
  const Elf64_Ehdr* vdso = (const Elf64_Ehdr*)getauxval(AT_SYSINFO_EHDR);
  EXPECT(vdso == NULL || memcmp(vdso->e_ident, ELFMAG, SELFMAG) == 0);

  EXPECT(((uintptr_t)__builtin_frame_address(0) & 15) == 0);
  EXPECT(constructed == 1 && thread_number++ == 41 && thread_number == 42);
  EXPECT(initialised[0] + initialised[1] + initialised[2] == 6);
  for (size_t i = 0; i < sizeof(zeroed); ++i) EXPECT(zeroed[i] == 0);

  char directory[4096];
  EXPECT(getcwd(directory, sizeof(directory)) != NULL);
  printf("directory ends with %s\n", strrchr(directory, '/'));
  char line[256];
  while (fgets(line, sizeof(line), stdin) != NULL) printf("input [%s]\n", line);
  fprintf(stderr, "to standard error\n");
  printf("%.17g %s\n", 1.0 / 3, "end");
  return 0;
}
