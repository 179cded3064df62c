// A stack machine in threaded code: every operation ends with an indirect jump of its own to the
// next. It counts the steps of the Collatz sequence of every number below 1000 * AMOUNT.
#include <stdint.h>

#include "arguments.h"

enum operation {
  kPush,   // operand: the value
  kLoad,   // operand: the variable
  kStore,  // operand: the variable
  kAdd,
  kMultiply,
  kShiftRight,
  kAnd,
  kLess,
  kJump,  // operand: where to
  kJumpIfZero,
  kHalt,
};

enum variable { kNumber, kValue, kSteps, kLimit, kVariables };

// Two words each: the operation and its operand.
static const int64_t program[][2] = {
    {kPush, 1},         // 0
    {kStore, kNumber},  // 1
    {kLoad, kNumber},   // 2: the next number
    {kStore, kValue},   // 3
    {kPush, 1},         // 4: the next step, unless the value is 1
    {kLoad, kValue},    // 5
    {kLess, 0},         // 6
    {kJumpIfZero, 27},  // 7
    {kLoad, kSteps},    // 8
    {kPush, 1},         // 9
    {kAdd, 0},          // 10
    {kStore, kSteps},   // 11
    {kLoad, kValue},    // 12
    {kPush, 1},         // 13
    {kAnd, 0},          // 14
    {kJumpIfZero, 22},  // 15
    {kLoad, kValue},    // 16: odd
    {kPush, 3},         // 17
    {kMultiply, 0},     // 18
    {kPush, 1},         // 19
    {kAdd, 0},          // 20
    {kJump, 25},        // 21
    {kLoad, kValue},    // 22: even
    {kPush, 1},         // 23
    {kShiftRight, 0},   // 24
    {kStore, kValue},   // 25
    {kJump, 4},         // 26
    {kLoad, kNumber},   // 27: the sequence has ended
    {kPush, 1},         // 28
    {kAdd, 0},          // 29
    {kStore, kNumber},  // 30
    {kLoad, kNumber},   // 31
    {kLoad, kLimit},    // 32
    {kLess, 0},         // 33
    {kJumpIfZero, 36},  // 34
    {kJump, 2},         // 35
    {kHalt, 0},         // 36
};

static int64_t run(int64_t limit) {
  static void* const labels[] = {&&push,     &&load,         &&store,   &&add,
                                 &&multiply, &&shift_right,  &&bit_and, &&less,
                                 &&jump,     &&jump_if_zero, &&halt};
  int64_t variables[kVariables] = {[kLimit] = limit};
  int64_t stack[16];
  int64_t* top = stack;
  const int64_t(*at)[2] = program;
#define NEXT goto* labels[(*at)[0]]
  NEXT;
push:
  *++top = (*at++)[1];
  NEXT;
load:
  *++top = variables[(*at++)[1]];
  NEXT;
store:
  variables[(*at++)[1]] = *top--;
  NEXT;
add:
  --top;
  top[0] += top[1];
  ++at;
  NEXT;
multiply:
  --top;
  top[0] *= top[1];
  ++at;
  NEXT;
shift_right:
  --top;
  top[0] >>= top[1];
  ++at;
  NEXT;
bit_and:
  --top;
  top[0] &= top[1];
  ++at;
  NEXT;
less:
  --top;
  top[0] = top[0] < top[1];
  ++at;
  NEXT;
jump:
  at = program + (*at)[1];
  NEXT;
jump_if_zero:
  at = *top-- == 0 ? program + (*at)[1] : at + 1;
  NEXT;
halt:
  return variables[kSteps];
#undef NEXT
}

int main(int argc, char** argv) {
  printf("%ld\n", run(1000 * amount_of_work(argc, argv)));
  return 0;
}
