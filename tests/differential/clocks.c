// Clocks read through the vDSO lie between two readings by system call; getcpu names the processor the program runs on.
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

// Two processors' clocks may differ by this much.
enum { kSlack = 2000, kRounds = 200 };

static int64_t nanoseconds(struct timespec time) { return time.tv_sec * 1000000000LL + time.tv_nsec; }

static int64_t by_system_call(clockid_t clock) {
  struct timespec time;
  EXPECT(syscall(SYS_clock_gettime, clock, &time) == 0);
  return nanoseconds(time);
}

static void compare(const char* name, clockid_t clock) {
  for (int i = 0; i < kRounds; ++i) {
    struct timespec time;
    const int64_t before = by_system_call(clock);
    EXPECT(clock_gettime(clock, &time) == 0);
    const int64_t between = nanoseconds(time);
    const int64_t after = by_system_call(clock);
    if (between < before - kSlack || between > after + kSlack) {
      printf("%s: %+lld ns from before, %+lld ns from after\n", name, (long long)(between - before), (long long)(between - after));
      EXPECT(0);
    }
  }
  struct timespec resolution;
  EXPECT(clock_getres(clock, &resolution) == 0);
  printf("%s agrees, resolution %lld ns\n", name, (long long)nanoseconds(resolution));
}

static void progress(void) {
  struct timespec last, now, pause = {0, 30000000};
  EXPECT(clock_gettime(CLOCK_MONOTONIC, &last) == 0);
  for (int i = 0; i < 100000; ++i) {
    EXPECT(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    EXPECT(nanoseconds(now) >= nanoseconds(last));
    last = now;
  }
  EXPECT(nanosleep(&pause, NULL) == 0);
  EXPECT(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
  const int64_t slept = nanoseconds(now) - nanoseconds(last);
  EXPECT(slept >= 30000000 && slept < 5000000000);
  printf("monotonic, and sleeps as long as it should\n");
}

static void processor(void) {
  unsigned by_call, node;
  EXPECT(syscall(SYS_getcpu, &by_call, &node, NULL) == 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(by_call, &one);
  EXPECT(sched_setaffinity(0, sizeof(one), &one) == 0);
  EXPECT(syscall(SYS_getcpu, &by_call, &node, NULL) == 0);
  EXPECT(CPU_ISSET(by_call, &one));
  EXPECT(sched_getcpu() == (int)by_call);
  unsigned cpu = 999, memory_node = 999;
  EXPECT(getcpu(&cpu, &memory_node) == 0 && cpu == by_call && memory_node == node);
  printf("getcpu agrees\n");
}

int main(void) {
  compare("CLOCK_REALTIME", CLOCK_REALTIME);
  compare("CLOCK_MONOTONIC", CLOCK_MONOTONIC);
  compare("CLOCK_BOOTTIME", CLOCK_BOOTTIME);
  compare("CLOCK_TAI", CLOCK_TAI);
  compare("CLOCK_MONOTONIC_RAW", CLOCK_MONOTONIC_RAW);
  compare("CLOCK_REALTIME_COARSE", CLOCK_REALTIME_COARSE);
  compare("CLOCK_MONOTONIC_COARSE", CLOCK_MONOTONIC_COARSE);
  compare("CLOCK_PROCESS_CPUTIME_ID", CLOCK_PROCESS_CPUTIME_ID);
  compare("CLOCK_THREAD_CPUTIME_ID", CLOCK_THREAD_CPUTIME_ID);
  struct timeval day;
  EXPECT(gettimeofday(&day, NULL) == 0);
  EXPECT(time(NULL) - day.tv_sec <= 1);
  progress();
  processor();
  return 0;
}
