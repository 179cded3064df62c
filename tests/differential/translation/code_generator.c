// What a compiler at run time does: 10,000 functions that call each other, through calls patched later, in memory freed and used
// again, with the oldest thrown away; then an interpreter that makes code for hot loops.
#include <unistd.h>

#include "code.h"

enum { kFunctions = 10000, kSlot = 64, kArena = 1 << 18, kSlots = kArena / kSlot };

static unsigned char* arena;
static uint64_t seed = 1;

static unsigned random_below(unsigned bound) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(seed >> 33) % bound;
}

static unsigned char* byte(unsigned char* at, int value) {
  *at = (unsigned char)value;
  return at + 1;
}

static unsigned char* word(unsigned char* at, int value) {
  memcpy(at, &value, 4);
  return at + 4;
}

static unsigned char* branch(unsigned char* at, int opcode, const unsigned char* target) {
  at = byte(at, opcode);
  return word(at, (int)(target - (at + 4)));
}

static int live[kSlots];  // whether a slot holds a function, and its depth of calls

// f(x): some arithmetic, a branch over a part of it, and a call or a jump to a live function of smaller depth.
static void make(unsigned slot) {
  unsigned char* at = arena + slot * kSlot;
  memset(at, 0xcc, kSlot);
  unsigned char* const end = at + kSlot;
  at = byte(byte(byte(at, 0x48), 0x69), 0xff);  // imul $n, %rdi, %rdi
  at = word(at, (int)random_below(1000) * 2 + 1);
  at = byte(byte(byte(byte(at, 0x40), 0xf6), 0xc7), (int)(1u << random_below(7)));  // test $bit, %dil
  at = byte(byte(at, 0x74 + (int)random_below(2)), 7);                              // jz or jnz over the next
  at = byte(byte(byte(at, 0x48), 0x81), 0xc7 + 0);                                  // add $n, %rdi
  at = word(at, (int)random_below(100000));
  int callee = -1;
  for (int tries = 0; tries < 8 && callee < 0; ++tries) {
    const unsigned candidate = random_below(kSlots);
    if (candidate != slot && live[candidate] > 0 && live[candidate] < 20) callee = (int)candidate;
  }
  live[slot] = 1;
  if (callee >= 0) {
    live[slot] = live[callee] + 1;
    const unsigned char* target = arena + callee * kSlot;
    if (random_below(3) == 0) {
      at = branch(at, 0xe9, target);
    } else {
      at = byte(at, 0x57);           // push %rdi
      at = branch(at, 0xe8, target);
      at = byte(at, 0x5f);           // pop %rdi
      at = byte(byte(byte(at, 0x48), 0x01), 0xf8);  // add %rdi, %rax
      at = byte(at, 0xc3);
    }
  } else {
    at = byte(byte(byte(byte(at, 0x48), 0x8d), 0x47), 5);  // lea 5(%rdi), %rax
    at = byte(at, 0xc3);
  }
  EXPECT(at <= end);
}

// The slot's callers still jump there: it gets a function that needs no other.
static void drop(unsigned slot) {
  unsigned char* at = arena + slot * kSlot;
  at = byte(byte(byte(byte(at, 0x48), 0x8d), 0x47), (int)random_below(100));
  byte(at, 0xc3);
  live[slot] = 1;
}

static void functions(const char* what, int toggle) {
  seed = 42;
  memset(live, 0, sizeof(live));
  EXPECT(mprotect(arena, kArena, kRw) == 0);
  memset(arena, 0xc3, kArena);
  long sum = 0;
  for (int i = 0; i < kFunctions; ++i) {
    if (toggle && i % 20 == 0) EXPECT(mprotect(arena, kArena, kRw) == 0);
    const unsigned slot = random_below(kSlots);
    if (live[slot] > 0) {
      drop(slot);
    } else {
      make(slot);
    }
    if (!toggle && i == 0) EXPECT(mprotect(arena, kArena, kRwx) == 0);
    if (toggle && i % 20 != 19) continue;
    if (toggle) EXPECT(mprotect(arena, kArena, kRx) == 0);
    for (int k = 0; k < 10; ++k) {
      const unsigned called = random_below(kSlots);
      if (live[called] > 0) sum = sum * 3 + call_code(arena + called * kSlot, k);
    }
    if (i % 1000 == 999) {
      // A part of the memory goes back, and comes again empty.
      const unsigned first = random_below(kSlots / 2) / 64 * 64;
      unsigned char* const from = arena + first * kSlot;
      EXPECT(munmap(from, 4096) == 0);
      EXPECT(mmap(from, 4096, kRwx, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == from);
      EXPECT(from[0] == 0);
      for (unsigned slot_there = first; slot_there < first + 64; ++slot_there) drop(slot_there);
    }
  }
  printf("%s: %lx\n", what, sum);
}

// Every function new and never called again: code that is only translated once must not stay for ever.
static void run_once_code(void) {
  unsigned char* place = map_code(1 << 20, kRwx);
  long sum = 0;
  size_t at = 0;
  for (int i = 0; i < 60000; ++i) {
    if (at + 32 > 1 << 20) at = 0;
    at += put_linear(place + at, i, i * 5);
    sum = sum * 3 + call_code(place + at - 14, i);
  }
  EXPECT(munmap(place, 1 << 20) == 0);
  printf("run once: %lx\n", sum);
}

// An inline cache: `cmp $expected, %rdi; jne miss; mov $answer; ret`, patched on every miss.
static void inline_cache(void) {
  unsigned char* place = map_code(4096, kRwx);
  static const unsigned char code[] = {0x48, 0x81, 0xff, 0, 0, 0, 0, 0x75, 0x06, 0xb8, 0, 0, 0, 0, 0xc3, 0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xc3};
  memcpy(place, code, sizeof(code));
  long sum = 0, misses = 0;
  for (int i = 0; i < 20000; ++i) {
    const int key = (i / 7) % 5;
    long answer = call_code(place, key);
    if (answer == -1) {
      ++misses;
      const int value = key * 1000;
      memcpy(place + 3, &key, 4);
      memcpy(place + 10, &value, 4);
      answer = value;
    }
    sum = sum * 3 + answer;
  }
  printf("inline cache: %lx, %ld misses\n", sum, misses);
}

int main(void) {
  arena = map_code(kArena, kRwx);
  functions("writable and executable", 0);
  functions("by turns writable and executable", 1);
  run_once_code();
  inline_cache();
  return 0;
}
