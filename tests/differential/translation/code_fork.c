// Generated code in two processes after fork: a private page is changed by one for itself, a shared one for both.
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "code.h"

static unsigned char *private_code, *shared_code;
static atomic_long* turn;

static void wait_for(long value) {
  while (atomic_load(turn) < value) usleep(50);
}

static void wait_child(pid_t child) {
  int status;
  EXPECT(waitpid(child, &status, 0) == child);
  EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void by_turns(void) {
  put_constant(private_code, 1);
  put_constant(shared_code, 2);
  EXPECT(call_code(private_code, 0) == 1 && call_code(shared_code, 0) == 2);
  atomic_store(turn, 0);
  fflush(stdout);
  const pid_t child = fork();
  EXPECT(child >= 0);
  for (int i = 0; i < 50; ++i) {
    if (child == 0) {
      wait_for(3 * i);
      EXPECT(call_code(private_code, 0) == (i == 0 ? 1 : i * 10 - 10));
      put_constant(private_code, i * 10);
      put_constant(shared_code, i * 20);
      EXPECT(call_code(private_code, 0) == i * 10 && call_code(shared_code, 0) == i * 20);
      atomic_store(turn, 3 * i + 1);
      wait_for(3 * i + 2);
      EXPECT(call_code(private_code, 0) == i * 10 && call_code(shared_code, 0) == i * 30);
      atomic_store(turn, 3 * i + 3);
    } else {
      wait_for(3 * i + 1);
      EXPECT(call_code(private_code, 0) == (i == 0 ? 1 : i * 7 - 7) && call_code(shared_code, 0) == i * 20);
      put_constant(private_code, i * 7);
      put_constant(shared_code, i * 30);
      EXPECT(call_code(private_code, 0) == i * 7 && call_code(shared_code, 0) == i * 30);
      atomic_store(turn, 3 * i + 2);
      wait_for(3 * i + 3);
    }
  }
  if (child == 0) _exit(0);
  wait_child(child);
  printf("by turns: parent %ld, shared %ld\n", call_code(private_code, 0), call_code(shared_code, 0));
}

// A tree of processes, each of which changes the copy that it has inherited.
static void generations(int depth, long value) {
  put_linear(private_code, 3, (int)value);
  EXPECT(call_code(private_code, 2) == 6 + value);
  if (depth > 0) {
    for (int i = 1; i <= 2; ++i) {
      const pid_t child = fork();
      EXPECT(child >= 0);
      if (child == 0) {
        EXPECT(call_code(private_code, 2) == 6 + value);
        generations(depth - 1, value * 10 + i);
        _exit(0);
      }
      // At the same time, in the parent.
      private_code[9] = (unsigned char)(value + i);
      wait_child(child);
      EXPECT(call_code(private_code, 2) == 6 + (value & ~0xffL) + ((value + i) & 0xff));
      put_linear(private_code, 3, (int)value);
    }
  }
  EXPECT(call_code(private_code, 2) == 6 + value);
}

// A child of a threaded process, whose other threads go on making code.
static atomic_bool stop;

static void* make_code(void* unused) {
  (void)unused;
  for (int i = 0; !atomic_load(&stop); ++i) {
    put_constant(private_code + 2048, i);
    EXPECT(call_code(private_code + 2048, 0) == i);
  }
  return NULL;
}

static void threaded_parent(void) {
  pthread_t maker;
  EXPECT(pthread_create(&maker, NULL, make_code, NULL) == 0);
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
      for (int k = 0; k < 200; ++k) {
        put_constant(private_code + 2048, k);
        EXPECT(call_code(private_code + 2048, 0) == k);
      }
      _exit(0);
    }
    wait_child(child);
  }
  atomic_store(&stop, 1);
  EXPECT(pthread_join(maker, NULL) == 0);
  printf("from a threaded process: ok\n");
}

// A vfork child shares the memory, so its change stays.
static void vfork_child(void) {
  put_constant(private_code, 5);
  EXPECT(call_code(private_code, 0) == 5);
  const pid_t child = vfork();
  if (child == 0) {
    private_code[2] = 6;
    _exit(call_code(private_code, 0) == 6 ? 0 : 1);
  }
  EXPECT(child > 0);
  wait_child(child);
  printf("after vfork: %ld\n", call_code(private_code, 0));
}

int main(void) {
  private_code = map_code(8192, kRwx);
  shared_code = mmap(NULL, 8192, kRwx, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT(shared_code != MAP_FAILED);
  turn = (atomic_long*)(shared_code + 4096);
  by_turns();
  generations(3, 1);
  printf("generations: ok\n");
  threaded_parent();
  vfork_child();
  return 0;
}
