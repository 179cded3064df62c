// Takes all it can get: `abuse CASE`. The driver (run) says what becomes of it.
#include "tests/security/abuse/abuse.h"

#include <string.h>

static const struct {
  const char* name;
  int (*run)(void);
} kCases[] = {
    {"fork_bomb", ForkBomb},
    {"thread_bomb", ThreadBomb},
    {"busy_loop", BusyLoop},
    {"short_children", ShortChildren},
    {"forgotten_children", ForgottenChildren},
    {"busy_behind_stop", BusyBehindStop},
    {"memory_hog", MemoryHog},
    {"descriptor_hog", DescriptorHog},
    {"output_flood", OutputFlood},
    {"disk_filler", DiskFiller},
    {"large_file", LargeFile},
    {"deep_directory", DeepDirectory},
    {"many_arguments", ManyArguments},
    {"siblings", Siblings},
};

int main(int argc, char** argv) {
  // The last line of defence; children have no alarm, but Escaped ends this group.
  alarm(kMostSeconds);
  setpgid(0, 0);
  if (argc == 2) {
    for (size_t i = 0; i < sizeof(kCases) / sizeof(kCases[0]); ++i) {
      if (strcmp(argv[1], kCases[i].name) == 0) return kCases[i].run();
    }
  }
  // What many_arguments executes.
  printf("%d arguments\n", argc);
  return 0;
}
