/* The C API from C: what dunebox.h promises, a case each.
 *
 *   c_api_test PLUGIN-CASES.so [CASE]      PLUGIN-CASES: tests/plugin/cases.cc
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dunebox.h"

static const char* cases_path;
static int failures = 0;

#define EXPECT(condition)                                                     \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      ++failures;                                                             \
    }                                                                         \
  } while (0)

/* Ends the program: what comes next would make no sense. */
static void MustBeOk(dunebox_status status, const dunebox_error* error, const char* what) {
  if (status == DUNEBOX_OK) return;
  fprintf(stderr, "%s: %s: %s\n", what, dunebox_status_name(status), error->message);
  exit(1);
}

static dunebox_error error;
#define MUST(call) MustBeOk((call), &error, #call)

static const char* walls; /* one-wall, two-walls: what each sandbox here gets */

static dunebox_sandbox* Make(const char* deadline) {
  dunebox_policy* policy = dunebox_policy_create();
  dunebox_sandbox* sandbox = NULL;
  MUST(dunebox_policy_set(policy, "deadline", deadline, &error));
  MUST(dunebox_policy_set(policy, "demand", walls, &error));
  MUST(dunebox_create(policy, &sandbox, &error));
  EXPECT(dunebox_policy_destroy(policy) == DUNEBOX_OK);
  MUST(dunebox_load(sandbox, cases_path, &error));
  return sandbox;
}
/* Longer than anything takes on a busy machine. */
static const char kPatient[] = "2m";

static dunebox_function* Find(dunebox_sandbox* sandbox, const char* name, const char* signature) {
  dunebox_function* function = NULL;
  MUST(dunebox_find(sandbox, name, signature, &function, &error));
  return function;
}

static dunebox_memory* Allocate(dunebox_sandbox* sandbox, size_t size) {
  dunebox_memory* memory = NULL;
  MUST(dunebox_allocate(sandbox, size, &memory, &error));
  return memory;
}

static int64_t Sum(dunebox_function* add, int64_t a, int64_t b) {
  dunebox_value arguments[2], result = {.u = 0};
  arguments[0].i = a;
  arguments[1].i = b;
  MUST(dunebox_call(add, arguments, 2, &result, &error));
  return result.i;
}

/* ---- cases
 * -----------------------------------------------------------------------------------------------
 */

static void CallsPassNumbersOfAllKinds(void) {
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_function* add = Find(sandbox, "add", "i32(i32, i32)");
  dunebox_function* scale = Find(sandbox, "scale", "f64(f64,i32,f32)");
  dunebox_function* halve = Find(sandbox, "halve", " f32 ( f32 ) ");
  dunebox_function* wrap = Find(sandbox, "wrap", "u8(u8)");
  dunebox_function* many = Find(sandbox, "sum_many", "i64(i64,i64,i64,i64,i64,i64,i64,i64)");
  dunebox_value arguments[8], result;
  int i;
  EXPECT(Sum(add, 40, 2) == 42);
  EXPECT(Sum(add, -40, -2) == -42);
  arguments[0].f64 = 1.5;
  arguments[1].i = 4;
  arguments[2].f32 = 0.25f;
  MUST(dunebox_call(scale, arguments, 3, &result, &error));
  EXPECT(result.f64 == 6.25);
  arguments[0].f32 = 5.0f;
  MUST(dunebox_call(halve, arguments, 1, &result, &error));
  EXPECT(result.f32 == 2.5f);
  arguments[0].u = 255;
  MUST(dunebox_call(wrap, arguments, 1, &result, &error));
  EXPECT(result.u == 0);
  for (i = 0; i < 8; ++i) arguments[i].i = i == 6 ? 10 : i == 7 ? 100 : 1;
  MUST(dunebox_call(many, arguments, 8, &result, &error));
  EXPECT(result.i == 21 + 70 + 800);
  MUST(dunebox_call(many, arguments, 8, NULL, NULL));
  EXPECT(strcmp(dunebox_engine(sandbox), "jit") == 0);
  EXPECT(strcmp(dunebox_isolation(sandbox), "seg") == 0);
  EXPECT(strstr(dunebox_confinement(sandbox), "seccomp") != NULL);
  EXPECT((strncmp(dunebox_confinement(sandbox), "files: ", 7) == 0) == (strcmp(walls, "one-wall") == 0));
  dunebox_function_destroy(add);
  dunebox_function_destroy(scale);
  dunebox_function_destroy(halve);
  dunebox_function_destroy(wrap);
  dunebox_function_destroy(many);
  EXPECT(dunebox_destroy(sandbox) == DUNEBOX_OK);
}

static void CallsReturnStructures(void) {
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_function* make = Find(sandbox, "make_large", "struct:40(i64, i64)");
  dunebox_value arguments[2];
  int64_t large[5] = {0};
  arguments[0].i = 10;
  arguments[1].i = 5;
  MUST(dunebox_call_into(make, arguments, 2, large, sizeof(large), &error));
  EXPECT(large[0] == 10 && large[4] == 30);
  EXPECT(dunebox_call_into(make, arguments, 2, large, 32, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_call_into(make, arguments, 2, NULL, 40, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_call(make, arguments, 2, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  dunebox_function_destroy(make);
  dunebox_destroy(sandbox);
}

struct Point {
  double x, y;
};
struct Color {
  float parts[3];
};
struct Item {
  int32_t id;
  float weight;
  double price;
};
struct Range {
  uint64_t start;
  uint32_t length;
};
struct Large {
  int64_t values[5];
};

static void StructuresGoByValue(void) {
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_function* turn = Find(sandbox, "turn", "{f64, f64}({f64, f64})");
  dunebox_function* darker = Find(sandbox, "darker", "{f32[3]}({f32[3]}, f32)");
  dunebox_function* reprice = Find(sandbox, "reprice", "{i32, f32, f64}({i32, f32, f64}, f64)");
  dunebox_function* tail = Find(sandbox, "tail", "{ptr, u32}({ptr, u32}, u32)");
  dunebox_function* sum = Find(sandbox, "sum_structures",
                               "f64(struct:40, {f64,f64}, {ptr,u32}, i64, {i32,f32,f64}, {f32[3]}, {f64,f64}, "
                               "{f64,f64}, {{f64}[2]})");
  dunebox_function* stays = Find(sandbox, "with_few_registers", "f64(i64,i64,i64,i64,i64,{ptr,u32},i64)");
  struct Point point = {3, 4}, turned, half = {0.5, 0.25};
  struct Color color = {{1, 2, 4}}, dark;
  struct Item item = {41, 1.5f, 10}, other;
  struct Range range = {0x1000, 36}, left;
  struct Large large = {{1, 2, 3, 4, 5}};
  dunebox_value arguments[9], result;
  int i;
  arguments[0].s = &point;
  MUST(dunebox_call_into(turn, arguments, 1, &turned, sizeof(turned), &error));
  EXPECT(turned.x == -4 && turned.y == 3);
  arguments[0].s = &color;
  arguments[1].f32 = 0.5f;
  MUST(dunebox_call_into(darker, arguments, 2, &dark, sizeof(dark), &error));
  EXPECT(dark.parts[0] == 0.5f && dark.parts[1] == 1 && dark.parts[2] == 2);
  arguments[0].s = &item;
  arguments[1].f64 = 12;
  MUST(dunebox_call_into(reprice, arguments, 2, &other, sizeof(other), &error));
  EXPECT(other.id == 42 && other.weight == 3 && other.price == 2);
  arguments[0].s = &range;
  arguments[1].u = 6;
  MUST(dunebox_call_into(tail, arguments, 2, &left, sizeof(left), &error));
  EXPECT(left.start == 0x1006 && left.length == 30);
  /* In registers, on the stack, and behind what is there. */
  arguments[0].s = &large;
  arguments[1].s = &point;
  arguments[2].s = &range;
  arguments[3].i = 7;
  arguments[4].s = &item;
  arguments[5].s = &color;
  arguments[6].s = &half;
  arguments[7].s = &point;
  arguments[8].s = &half;
  MUST(dunebox_call(sum, arguments, 9, &result, &error));
  EXPECT(result.f64 == 15 + 7 + 43 + 52.5 + 7 + 0.75 + 70 + 75);
  for (i = 0; i < 5; ++i) arguments[i].i = 1;
  arguments[5].s = &range;
  arguments[6].i = 2;
  MUST(dunebox_call(stays, arguments, 7, &result, &error));
  EXPECT(result.f64 == 5 + 360 + 200);
  arguments[0].s = NULL;
  EXPECT(dunebox_call_into(turn, arguments, 1, &turned, sizeof(turned), &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_call_into(turn, arguments, 1, &turned, 8, &error) == DUNEBOX_INVALID_ARGUMENT);
  dunebox_function_destroy(turn);
  dunebox_function_destroy(darker);
  dunebox_function_destroy(reprice);
  dunebox_function_destroy(tail);
  dunebox_function_destroy(sum);
  dunebox_function_destroy(stays);
  dunebox_destroy(sandbox);
}

static void MovePoint(void* user, const dunebox_value* arguments, dunebox_value* result) {
  const struct Point* const point = arguments[0].s;
  const struct Item* const by = arguments[1].s;
  struct Point* const moved = result->to;
  (void)user;
  moved->x = point->x + by->id;
  moved->y = point->y + by->price;
}
static void Lengthen(void* user, const dunebox_value* arguments, dunebox_value* result) {
  struct Range* const longer = result->to;
  *longer = *(const struct Range*)arguments[5].s;
  longer->length += (uint32_t)(arguments[6].i + *(int*)user);
  if (arguments[4].i != 5 || arguments[7].f64 != 0.5) longer->length = 0;
}
static void ScaleLarge(void* user, const dunebox_value* arguments, dunebox_value* result) {
  struct Large* const scaled = result->to;
  int i;
  (void)user;
  for (i = 0; i < 5; ++i) {
    scaled->values[i] = ((const struct Large*)arguments[0].s)->values[i] * arguments[1].i;
  }
}

static void CallbacksHaveStructures(void) {
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_function* with_point = Find(sandbox, "call_back_point", "{f64,f64}(ptr, {f64,f64})");
  dunebox_function* with_range = Find(sandbox, "call_back_range", "{ptr,u32}(ptr, {ptr,u32})");
  dunebox_function* with_large = Find(sandbox, "call_back_large", "i64(ptr, struct:40)");
  struct Point point = {10, 20};
  struct Range range = {0, 30};
  struct Large large = {{1, 0, 0, 0, 9}};
  int more = 6;
  dunebox_value arguments[2], result;
  MUST(dunebox_export(sandbox, "{f64,f64}({f64,f64}, {i32,f32,f64})", MovePoint, NULL, &arguments[0].p, &error));
  arguments[1].s = &point;
  MUST(dunebox_call_into(with_point, arguments, 2, &point, sizeof(point), &error));
  EXPECT(point.x == 11 && point.y == 23);
  /* The structure and what is behind it are on the stack. */
  MUST(dunebox_export(sandbox, "{ptr,u32}(i64,i64,i64,i64,i64,{ptr,u32},i64,f64)", Lengthen, &more, &arguments[0].p,
                      &error));
  arguments[1].s = &range;
  MUST(dunebox_call_into(with_range, arguments, 2, &range, sizeof(range), &error));
  EXPECT(range.length == 42);
  MUST(dunebox_export(sandbox, "{i64[5]}({i64[5]}, i32)", ScaleLarge, NULL, &arguments[0].p, &error));
  arguments[1].s = &large;
  MUST(dunebox_call(with_large, arguments, 2, &result, &error));
  EXPECT(result.i == 30);
  EXPECT(dunebox_export(sandbox, "struct:16385()", ScaleLarge, NULL, &arguments[0].p, &error) ==
         DUNEBOX_INVALID_ARGUMENT);
  dunebox_function_destroy(with_point);
  dunebox_function_destroy(with_range);
  dunebox_function_destroy(with_large);
  dunebox_destroy(sandbox);
}

/* What the host's memory has between the fields stays there. */
static void PaddingDoesNotCross(void) {
  dunebox_sandbox* sandbox = Make(kPatient);
  /* Of a structure of a byte and a word it gets both words, seven bytes of padding among them. */
  dunebox_function* words = Find(sandbox, "add_words", "u64({u8, u64})");
  unsigned char bytes[16];
  dunebox_value argument, result;
  memset(bytes, 0xff, sizeof(bytes));
  bytes[0] = 1;
  memset(bytes + 8, 0, 8);
  argument.s = bytes;
  MUST(dunebox_call(words, &argument, 1, &result, &error));
  EXPECT(result.u == 1);
  dunebox_function_destroy(words);
  dunebox_destroy(sandbox);
}

static void MemoryLimitsThatWereReachedAreSaid(void) {
  dunebox_policy* policy = dunebox_policy_create();
  dunebox_sandbox* sandbox = NULL;
  dunebox_function* fill;
  dunebox_value argument;
  MUST(dunebox_policy_set(policy, "memory_limit", "32M", &error));
  MUST(dunebox_policy_set(policy, "demand", walls, &error));
  MUST(dunebox_create(policy, &sandbox, &error));
  dunebox_policy_destroy(policy);
  MUST(dunebox_load(sandbox, cases_path, &error));
  fill = Find(sandbox, "allocate_or_abort", "void(u64)");
  argument.u = UINT64_C(64) << 20;
  EXPECT(dunebox_call(fill, &argument, 1, NULL, &error) == DUNEBOX_FAILED);
  EXPECT(error.failure == DUNEBOX_FAILURE_TRAP && error.signal == SIGABRT && error.reached_memory_limit != 0);
  EXPECT(dunebox_state(sandbox, &error) == DUNEBOX_FAILED && error.reached_memory_limit != 0);
  MUST(dunebox_reset(sandbox, &error));
  EXPECT(error.reached_memory_limit == 0);
  dunebox_function_destroy(fill);
  dunebox_destroy(sandbox);
}

/* The distribution's zlib, as it is. */
static void ZlibCompressesAndUncompresses(void) {
  static const char kLibrary[] = "/usr/lib/x86_64-linux-gnu/libz.so.1";
  static const char kCode[] = "i32(ptr, ptr, ptr, u64)";
  enum { kSize = 200000 };
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_memory *from, *to, *back, *size;
  dunebox_function *compress, *uncompress;
  dunebox_value arguments[4], result;
  unsigned char* bytes;
  uint64_t* sizes;
  size_t i;
  MUST(dunebox_load(sandbox, kLibrary, &error));
  compress = Find(sandbox, "compress", kCode);
  uncompress = Find(sandbox, "uncompress", kCode);
  from = Allocate(sandbox, kSize);
  to = Allocate(sandbox, kSize);
  back = Allocate(sandbox, kSize);
  size = Allocate(sandbox, 2 * sizeof(uint64_t));
  EXPECT(dunebox_memory_size(from) == kSize);
  bytes = dunebox_memory_host(from);
  sizes = dunebox_memory_host(size);
  for (i = 0; i < kSize; ++i) bytes[i] = (unsigned char)(i * i / 700);
  sizes[0] = sizes[1] = kSize;
  arguments[0].p = dunebox_memory_guest(to);
  arguments[1].p = dunebox_memory_guest(size);
  arguments[2].p = dunebox_memory_guest(from);
  arguments[3].u = kSize;
  MUST(dunebox_call(compress, arguments, 4, &result, &error));
  EXPECT(result.i == 0);
  EXPECT(sizes[0] > 100 && sizes[0] < kSize);
  arguments[0].p = dunebox_memory_guest(back);
  arguments[1].p = dunebox_memory_guest(size) + sizeof(uint64_t);
  arguments[2].p = dunebox_memory_guest(to);
  arguments[3].u = sizes[0];
  MUST(dunebox_call(uncompress, arguments, 4, &result, &error));
  EXPECT(result.i == 0);
  EXPECT(memcmp(dunebox_memory_host(back), bytes, kSize) == 0);
  dunebox_function_destroy(compress);
  dunebox_function_destroy(uncompress);
  dunebox_memory_free(from);
  dunebox_memory_free(to);
  dunebox_memory_free(back);
  dunebox_memory_free(size);
  dunebox_destroy(sandbox);
}

struct Order {
  dunebox_sandbox* sandbox;
  int calls;
};

static void Compare(void* user, const dunebox_value* arguments, dunebox_value* result) {
  struct Order* const order = user;
  int32_t a = 0, b = 0;
  dunebox_read(order->sandbox, arguments[0].p, &a, sizeof(a), NULL);
  dunebox_read(order->sandbox, arguments[1].p, &b, sizeof(b), NULL);
  ++order->calls;
  result->i = (a > b) - (a < b);
}

static void ScaleBack(void* user, const dunebox_value* arguments, dunebox_value* result) {
  (void)user;
  result->f64 = arguments[0].f64 * (double)arguments[1].i + arguments[2].f64;
}

struct Nested {
  dunebox_function* call_back;
  dunebox_pointer self;
  dunebox_status deepest;
};

static void Deeper(void* user, const dunebox_value* arguments, dunebox_value* result) {
  struct Nested* const nested = user;
  dunebox_value inner[2];
  const dunebox_status status = (inner[0].p = nested->self, inner[1].i = arguments[0].i + 1,
                                 dunebox_call(nested->call_back, inner, 2, NULL, NULL));
  if (status != DUNEBOX_OK) nested->deepest = status;
  result->i = 0;
}

static void CallbacksReachTheHost(void) {
  enum { kCount = 500 };
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_function* sort = Find(sandbox, "qsort", "void(ptr, u64, u64, ptr)");
  dunebox_function* call_double = Find(sandbox, "call_back_double", "f64(ptr, f64)");
  dunebox_memory* numbers = Allocate(sandbox, kCount * sizeof(int32_t));
  int32_t* host = dunebox_memory_host(numbers);
  struct Order order = {sandbox, 0};
  struct Nested nested = {NULL, 0, DUNEBOX_OK};
  dunebox_pointer compare, scale;
  dunebox_value arguments[4], result;
  int i, is_sorted = 1;
  for (i = 0; i < kCount; ++i) host[i] = i * 7919 % 1009 - 500;
  MUST(dunebox_export(sandbox, "i32(ptr, ptr)", Compare, &order, &compare, &error));
  arguments[0].p = dunebox_memory_guest(numbers);
  arguments[1].u = kCount;
  arguments[2].u = sizeof(int32_t);
  arguments[3].p = compare;
  MUST(dunebox_call(sort, arguments, 4, NULL, &error));
  for (i = 1; i < kCount; ++i) is_sorted &= host[i - 1] <= host[i];
  EXPECT(is_sorted);
  EXPECT(order.calls > kCount);

  MUST(dunebox_export(sandbox, "f64(f64, i32, f64)", ScaleBack, NULL, &scale, &error));
  arguments[0].p = scale;
  arguments[1].f64 = 1.25;
  MUST(dunebox_call(call_double, arguments, 2, &result, &error));
  EXPECT(result.f64 == 4.0);

  nested.call_back = Find(sandbox, "call_back", "i32(ptr, i32)");
  MUST(dunebox_export(sandbox, "i32(i32)", Deeper, &nested, &nested.self, &error));
  arguments[0].p = nested.self;
  arguments[1].i = 0;
  MUST(dunebox_call(nested.call_back, arguments, 2, NULL, &error));
  EXPECT(nested.deepest == DUNEBOX_RESOURCE_EXHAUSTED);

  EXPECT(dunebox_export(sandbox, "i32()", NULL, NULL, &compare, &error) ==
         DUNEBOX_INVALID_ARGUMENT);
  dunebox_function_destroy(sort);
  dunebox_function_destroy(call_double);
  dunebox_function_destroy(nested.call_back);
  dunebox_memory_free(numbers);
  dunebox_destroy(sandbox);
}

static void CrashesAreErrorsUntilAReset(void) {
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_function* add = Find(sandbox, "add", "i32(i32, i32)");
  dunebox_function* write_at = Find(sandbox, "write_at", "void(u64, i32)");
  dunebox_function* leave = Find(sandbox, "leave", "void(i32)");
  dunebox_value arguments[2];
  arguments[0].u = 0x10;
  arguments[1].i = 1;
  EXPECT(dunebox_state(sandbox, &error) == DUNEBOX_OK);
  EXPECT(dunebox_call(write_at, arguments, 2, NULL, &error) == DUNEBOX_FAILED);
  EXPECT(error.status == DUNEBOX_FAILED);
  EXPECT(error.failure == DUNEBOX_FAILURE_TRAP);
  EXPECT(error.signal == SIGSEGV);
  EXPECT(error.fault_address == 0x10);
  EXPECT(error.instruction != 0);
  EXPECT(strstr(error.symbol, "write_at") != NULL);
  EXPECT(strstr(error.message, "SIGSEGV") != NULL);
  EXPECT(dunebox_call(add, arguments, 2, NULL, NULL) == DUNEBOX_FAILED);
  EXPECT(dunebox_state(sandbox, &error) == DUNEBOX_FAILED);
  EXPECT(error.failure == DUNEBOX_FAILURE_TRAP);
  MUST(dunebox_reset(sandbox, &error));
  EXPECT(error.failure == DUNEBOX_FAILURE_NONE && error.message[0] == '\0');
  EXPECT(dunebox_state(sandbox, &error) == DUNEBOX_OK);
  EXPECT(Sum(add, 1, 2) == 3);
  arguments[0].i = 7;
  EXPECT(dunebox_call(leave, arguments, 1, NULL, &error) == DUNEBOX_FAILED);
  EXPECT(error.failure == DUNEBOX_FAILURE_EXITED && error.exit_status == 7);
  dunebox_function_destroy(add);
  dunebox_function_destroy(write_at);
  dunebox_function_destroy(leave);
  dunebox_destroy(sandbox);
}

static void EndlessLoopsEndAtTheDeadline(void) {
  dunebox_sandbox* sandbox = Make("300ms");
  dunebox_function* spin = Find(sandbox, "spin", "void()");
  EXPECT(dunebox_call(spin, NULL, 0, NULL, &error) == DUNEBOX_FAILED);
  EXPECT(error.failure == DUNEBOX_FAILURE_TIMEOUT);
  dunebox_function_destroy(spin);
  dunebox_destroy(sandbox);
}

static void EndlessLoopsEndWithTheirInstructions(void) {
  dunebox_policy* policy = dunebox_policy_create();
  dunebox_sandbox* sandbox = NULL;
  dunebox_function* spin;
  MUST(dunebox_policy_set(policy, "instruction_budget", "1000000", &error));
  MUST(dunebox_policy_set(policy, "demand", walls, &error));
  MUST(dunebox_create(policy, &sandbox, &error));
  dunebox_policy_destroy(policy);
  MUST(dunebox_load(sandbox, cases_path, &error));
  spin = Find(sandbox, "spin", "void()");
  EXPECT(dunebox_call(spin, NULL, 0, NULL, &error) == DUNEBOX_FAILED);
  EXPECT(error.failure == DUNEBOX_FAILURE_INSTRUCTION_BUDGET);
  dunebox_function_destroy(spin);
  dunebox_destroy(sandbox);
}

static void DeniedCallsMayEndTheSandbox(void) {
  dunebox_policy* policy = dunebox_policy_create();
  dunebox_sandbox* sandbox = NULL;
  dunebox_function* socket_error;
  char text[100];
  size_t length = 0;
  MUST(dunebox_policy_set(policy, "on_denied", "end-sandbox", &error));
  MUST(dunebox_create(policy, &sandbox, &error));
  dunebox_policy_destroy(policy);
  MUST(dunebox_load(sandbox, cases_path, &error));
  socket_error = Find(sandbox, "socket_error", "i32()");
  EXPECT(dunebox_call(socket_error, NULL, 0, NULL, &error) == DUNEBOX_FAILED);
  EXPECT(error.failure == DUNEBOX_FAILURE_DENIED);
  EXPECT(strcmp(error.system_call, "socket") == 0);
  EXPECT(dunebox_denials(sandbox, text, 3, &length, &error) == DUNEBOX_OUT_OF_RANGE);
  EXPECT(length == strlen("call socket\n"));
  MUST(dunebox_denials(sandbox, text, sizeof(text), &length, &error));
  EXPECT(strcmp(text, "call socket\n") == 0);
  dunebox_function_destroy(socket_error);
  dunebox_destroy(sandbox);
}

static void MemoryIsCheckedAtItsEdges(void) {
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_memory* memory = Allocate(sandbox, 100);
  const dunebox_pointer guest = dunebox_memory_guest(memory);
  char* const host = dunebox_memory_host(memory);
  char buffer[101] = "";
  void* span = NULL;
  MUST(dunebox_span(sandbox, guest, 100, &span, &error));
  EXPECT(span == host);
  MUST(dunebox_span(sandbox, guest + 40, 60, &span, &error));
  EXPECT(span == host + 40);
  MUST(dunebox_span(sandbox, guest + 100, 0, &span, &error));
  EXPECT(dunebox_span(sandbox, guest, 101, &span, &error) == DUNEBOX_OUT_OF_RANGE);
  EXPECT(dunebox_span(sandbox, guest + 101, 0, &span, &error) == DUNEBOX_OUT_OF_RANGE);
  EXPECT(dunebox_span(sandbox, guest - 1, 1, &span, &error) == DUNEBOX_OUT_OF_RANGE);
  EXPECT(dunebox_span(sandbox, guest + 1, SIZE_MAX, &span, &error) == DUNEBOX_OUT_OF_RANGE);
  EXPECT(dunebox_span(sandbox, 0, 1, &span, &error) == DUNEBOX_OUT_OF_RANGE);
  EXPECT(dunebox_span(sandbox, UINT64_MAX, 1, &span, &error) == DUNEBOX_OUT_OF_RANGE);

  memcpy(host, "some text", 10);
  MUST(dunebox_read(sandbox, guest, buffer, 10, &error));
  EXPECT(strcmp(buffer, "some text") == 0);
  MUST(dunebox_write(sandbox, guest + 5, "word", 5, &error));
  EXPECT(strcmp(host, "some word") == 0);
  EXPECT(dunebox_read(sandbox, 0x10, buffer, 1, &error) == DUNEBOX_OUT_OF_RANGE);
  EXPECT(dunebox_read(sandbox, 0xfffffff8, buffer, 16, &error) == DUNEBOX_OUT_OF_RANGE);
  EXPECT(dunebox_read(sandbox, UINT64_MAX - 3, buffer, 8, &error) == DUNEBOX_OUT_OF_RANGE);
  EXPECT(dunebox_write(sandbox, 0x100000000, "x", 1, &error) == DUNEBOX_OUT_OF_RANGE);
  /* An address of the host's is none of the plugin's. */
  EXPECT(dunebox_read(sandbox, (dunebox_pointer)(uintptr_t)host, buffer, 1, &error) ==
         DUNEBOX_OUT_OF_RANGE);
  EXPECT(dunebox_allocate(sandbox, SIZE_MAX, &memory, &error) == DUNEBOX_RESOURCE_EXHAUSTED);
  EXPECT(dunebox_memory_free(memory) == DUNEBOX_OK);
  EXPECT(dunebox_span(sandbox, guest, 1, &span, &error) == DUNEBOX_OUT_OF_RANGE);
  dunebox_destroy(sandbox);
}

static void StringsGoBothWays(void) {
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_function* length_of = Find(sandbox, "length", "u64(ptr)");
  dunebox_function* greeting = Find(sandbox, "greeting", "ptr()");
  dunebox_function* say = Find(sandbox, "say", "i32(ptr)");
  dunebox_memory* text = NULL;
  dunebox_value argument, result;
  char buffer[16];
  size_t length = 0;
  MUST(dunebox_allocate_string(sandbox, "twelve bytes", &text, &error));
  argument.p = dunebox_memory_guest(text);
  MUST(dunebox_call(length_of, &argument, 1, &result, &error));
  EXPECT(result.u == 12);
  MUST(dunebox_call(say, &argument, 1, &result, &error));
  MUST(dunebox_take_output(sandbox, buffer, 7, &length, &error));
  EXPECT(length == 7 && memcmp(buffer, "twelve ", 7) == 0);
  MUST(dunebox_take_output(sandbox, buffer, sizeof(buffer), &length, &error));
  EXPECT(length == 6 && memcmp(buffer, "bytes\n", 6) == 0);
  MUST(dunebox_take_output(sandbox, buffer, sizeof(buffer), &length, &error));
  EXPECT(length == 0);
  MUST(dunebox_call(greeting, NULL, 0, &result, &error));
  MUST(dunebox_read_string(sandbox, result.p, buffer, 9, &length, &error));
  EXPECT(length == 8 && strcmp(buffer, "good day") == 0);
  EXPECT(dunebox_read_string(sandbox, result.p, buffer, 8, NULL, &error) == DUNEBOX_OUT_OF_RANGE);
  EXPECT(dunebox_read_string(sandbox, result.p, buffer, 0, NULL, &error) ==
         DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_read_string(sandbox, 1, buffer, 8, NULL, &error) == DUNEBOX_OUT_OF_RANGE);
  dunebox_memory_free(text);
  dunebox_function_destroy(length_of);
  dunebox_function_destroy(greeting);
  dunebox_function_destroy(say);
  dunebox_destroy(sandbox);
}

static void PoliciesAreRead(void) {
  static const char* const kGood[][2] = {
      {"engine", "jit"},         {"demand", "one-wall"},     {"deadline", "1.5s"},
      {"deadline", "inf"},       {"load_deadline", "90s"},   {"memory_limit", "64M"},
      {"stack", "1048576"},      {"host_threads", "2"},      {"plugin_threads", "0"},   {"open_files", "16"},
      {"nesting", "4"},          {"readable", "/usr/share"}, {"libraries", ""},
      {"libraries", "/usr/lib"}, {"environment", "A=b"},     {"on_denied", "error"},
      {"captured_output", "4K"}, {"code_cache", "16M"},      {"late_handlers", "guarded"},
      {"prepared_translations", "none"},
      {"file_access", "broker"},      {"file_access", "direct"},
      {"instruction_budget", "5000000000"}, {"least_isolation", "hardware"},
  };
  static const char* const kBad[][2] = {
      {"engine", "fast"},     {"deadline", "soon"},
      {"memory_limit", "-1"}, {"memory_limit", ""},
      {"memory_limit", "M"},  {"memory_limit", "17179869184G"},
      {"host_threads", "-1"}, {"host_threads", "4294967296"},
      {"no_such", "1"},       {"", ""},
      {"on_denied", ""},      {"instruction_budget", "-1"},
      {"least_isolation", "seg"}, {"prepared_translations", ""},
  };
  dunebox_policy* policy = dunebox_policy_create();
  dunebox_sandbox* sandbox = NULL;
  size_t i;
  for (i = 0; i < sizeof(kGood) / sizeof(kGood[0]); ++i) {
    MUST(dunebox_policy_set(policy, kGood[i][0], kGood[i][1], &error));
  }
  for (i = 0; i < sizeof(kBad) / sizeof(kBad[0]); ++i) {
    const dunebox_status status = dunebox_policy_set(policy, kBad[i][0], kBad[i][1], &error);
    if (status != DUNEBOX_INVALID_ARGUMENT) {
      fprintf(stderr, "accepted: %s = %s\n", kBad[i][0], kBad[i][1]);
      ++failures;
    }
  }
  EXPECT(dunebox_policy_set(policy, NULL, "x", &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_policy_set(policy, "engine", NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_policy_set(NULL, "engine", "jit", &error) == DUNEBOX_INVALID_ARGUMENT);
  /* The engine of the list is jit, which has no hardware. */
  MUST(dunebox_policy_set(policy, "host_threads", "1", &error));
  EXPECT(dunebox_create(policy, &sandbox, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(sandbox == NULL && strstr(error.message, "least_isolation") != NULL);
  MUST(dunebox_policy_set(policy, "demand", "two-walls", &error));
  MUST(dunebox_policy_set(policy, "host_threads", "100000", &error));
  EXPECT(dunebox_create(policy, &sandbox, &error) != DUNEBOX_OK);
  EXPECT(sandbox == NULL && error.message[0] != '\0');
  EXPECT(dunebox_policy_destroy(policy) == DUNEBOX_OK);
  EXPECT(dunebox_policy_destroy(policy) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_create(policy, &sandbox, &error) == DUNEBOX_INVALID_ARGUMENT);
}

static void BadSignaturesAreRefused(void) {
  static const char* const kBad[] = {
      "",
      "i32",
      "i32(",
      "(i32)",
      "i33()",
      "i32(void,i32)",
      "i32(i32,)",
      "i32(,)",
      "void*()",
      "f80()",
      "struct:16()",
      "struct:x()",
      "i32(struct:16)",
      "i32(struct:136)",
      "i32({})",
      "i32({i32)",
      "i32({i32,})",
      "i32({void})",
      "i32({i32[0]})",
      "i32({i32[]})",
      "i32({i32[9999999]})",
      "i32({struct:40})",
      "{u8[1048577]}()",
      "i32({i32}})",
      "{{{{{{{{{{{{{{{{{i8}}}}}}}}}}}}}}}}}()",
      "i32(...)",
      "i32()x",
      "struct:-1()",
      "struct:99999999999999999999()",
      "i32(i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32,i32)",
  };
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_function* function = NULL;
  dunebox_value arguments[2];
  size_t i;
  for (i = 0; i < sizeof(kBad) / sizeof(kBad[0]); ++i) {
    if (dunebox_find(sandbox, "add", kBad[i], &function, &error) != DUNEBOX_INVALID_ARGUMENT) {
      fprintf(stderr, "accepted: %s\n", kBad[i]);
      ++failures;
    }
  }
  EXPECT(function == NULL);
  function = Find(sandbox, "add", "i32(i32, i32)");
  arguments[0].i = 1;
  arguments[1].i = INT64_C(2147483648);
  EXPECT(dunebox_call(function, arguments, 2, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  arguments[1].i = INT64_C(-2147483649);
  EXPECT(dunebox_call(function, arguments, 2, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_call(function, arguments, 1, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_call(function, NULL, 2, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_state(sandbox, &error) == DUNEBOX_OK);
  dunebox_function_destroy(function);
  dunebox_destroy(sandbox);
}

static void WhatIsNotThereIsNotUsed(void) {
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_function* add = Find(sandbox, "add", "i32(i32, i32)");
  dunebox_function* none = NULL;
  dunebox_memory* memory = Allocate(sandbox, 10);
  dunebox_value arguments[2];
  dunebox_pointer address;
  char buffer[4];
  void* span;
  size_t length;
  arguments[0].i = arguments[1].i = 1;
  EXPECT(dunebox_load(NULL, "/x", &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_load(sandbox, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_load(sandbox, "libz.so.1", &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_load(sandbox, "/usr/lib/no_such.so", &error) == DUNEBOX_NOT_FOUND);
  EXPECT(dunebox_find(NULL, "add", "i32()", &none, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_find(sandbox, NULL, "i32()", &none, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_find(sandbox, "add", NULL, &none, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_find(sandbox, "add", "i32()", NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_find(sandbox, "no_such", "i32()", &none, &error) == DUNEBOX_NOT_FOUND);
  EXPECT(dunebox_create(NULL, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_call(NULL, NULL, 0, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_export(NULL, "void()", Compare, NULL, &address, &error) ==
         DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_allocate(NULL, 1, &memory, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_allocate(sandbox, 1, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_allocate_string(sandbox, NULL, &memory, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_span(NULL, 0, 0, &span, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_read(sandbox, 0, NULL, 1, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_take_output(sandbox, NULL, 1, &length, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_take_output(NULL, buffer, 1, &length, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_reset(NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_state(NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_engine(NULL) == NULL && dunebox_memory_host(NULL) == NULL);
  EXPECT(dunebox_destroy(NULL) == DUNEBOX_OK && dunebox_memory_free(NULL) == DUNEBOX_OK);

  /* What has been given back is known to be gone. */
  EXPECT(dunebox_function_destroy(add) == DUNEBOX_OK);
  EXPECT(dunebox_function_destroy(add) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_call(add, arguments, 2, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  add = Find(sandbox, "add", "i32(i32, i32)");
  EXPECT(dunebox_destroy(sandbox) == DUNEBOX_OK);
  EXPECT(dunebox_destroy(sandbox) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_load(sandbox, cases_path, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_isolation(sandbox) == NULL);
  EXPECT(dunebox_confinement(sandbox) == NULL);
  EXPECT(dunebox_call(add, arguments, 2, NULL, &error) == DUNEBOX_FAILED_PRECONDITION);
  EXPECT(dunebox_function_destroy(add) == DUNEBOX_OK);
  /* The host's memory outlives the sandbox. */
  memset(dunebox_memory_host(memory), 1, dunebox_memory_size(memory));
  EXPECT(dunebox_memory_free(memory) == DUNEBOX_OK);
  EXPECT(dunebox_memory_free(memory) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_memory_host(memory) == NULL && dunebox_memory_size(memory) == 0);
  EXPECT(strcmp(dunebox_status_name((dunebox_status)99), "unknown") == 0);
  EXPECT(strcmp(dunebox_status_name(DUNEBOX_OUT_OF_RANGE), "out of range") == 0);
  EXPECT(dunebox_version()[0] != '\0');
}

static void* CallOften(void* raw) {
  dunebox_function* const add = raw;
  uintptr_t wrong = 0;
  int i;
  for (i = 0; i < 2000; ++i) {
    dunebox_value arguments[2], result = {.i = 0};
    arguments[0].i = i;
    arguments[1].i = 1;
    wrong += dunebox_call(add, arguments, 2, &result, NULL) != DUNEBOX_OK || result.i != i + 1;
  }
  return (void*)wrong;
}

static void OneHandleIsForManyThreads(void) {
  enum { kThreads = 4 };
  dunebox_policy* policy = dunebox_policy_create();
  dunebox_sandbox* sandbox = NULL;
  dunebox_function* add;
  pthread_t threads[kThreads];
  int i;
  MUST(dunebox_policy_set(policy, "host_threads", "3", &error));
  MUST(dunebox_create(policy, &sandbox, &error));
  dunebox_policy_destroy(policy);
  MUST(dunebox_load(sandbox, cases_path, &error));
  add = Find(sandbox, "add", "i32(i32, i32)");
  MUST(dunebox_reset(sandbox, &error));
  for (i = 0; i < kThreads; ++i) pthread_create(&threads[i], NULL, CallOften, add);
  for (i = 0; i < kThreads; ++i) {
    void* wrong = NULL;
    pthread_join(threads[i], &wrong);
    EXPECT(wrong == NULL);
  }
  dunebox_function_destroy(add);
  dunebox_destroy(sandbox);
}

/* A pointer that was given before a reset names nothing of the new guest's. */
static void MemoryOfAnOldGuestIsNoneOfTheNew(void) {
  dunebox_sandbox* sandbox = Make(kPatient);
  dunebox_memory* old = Allocate(sandbox, 64);
  const dunebox_pointer guest = dunebox_memory_guest(old);
  void* span = NULL;
  MUST(dunebox_reset(sandbox, &error));
  EXPECT(dunebox_span(sandbox, guest, 64, &span, &error) == DUNEBOX_OUT_OF_RANGE);
  memset(dunebox_memory_host(old), 1, 64);
  EXPECT(dunebox_memory_free(old) == DUNEBOX_OK);
  dunebox_destroy(sandbox);
}

static void SnapshotsComeBackAndAreCloned(void) {
  dunebox_sandbox* sandbox = Make("60s");
  dunebox_sandbox *clone = NULL, *none = NULL, *opened = NULL;
  dunebox_function* next_saved;
  char path[64];
  dunebox_function* next = Find(sandbox, "next", "i32()");
  dunebox_function* next_there = NULL;
  dunebox_memory *memory = NULL, *there = NULL;
  dunebox_value result;
  snprintf(path, sizeof(path), "/tmp/dunebox-c-api-%ld", (long)getpid());
  MUST(dunebox_allocate(sandbox, 100, &memory, &error));
  strcpy(dunebox_memory_host(memory), "before");
  EXPECT(dunebox_clone(sandbox, &none, &error) == DUNEBOX_FAILED_PRECONDITION && none == NULL);
  MUST(dunebox_call(next, NULL, 0, &result, &error));
  MUST(dunebox_snapshot(sandbox, &error));
  MUST(dunebox_call(next, NULL, 0, &result, &error));
  EXPECT(result.i == 2);
  strcpy(dunebox_memory_host(memory), "after");
  MUST(dunebox_clone(sandbox, &clone, &error));
  MUST(dunebox_find_counterpart(clone, next, &next_there, &error));
  MUST(dunebox_call(next_there, NULL, 0, &result, &error));
  EXPECT(result.i == 2);
  MUST(dunebox_memory_counterpart(clone, memory, &there, &error));
  EXPECT(strcmp(dunebox_memory_host(there), "before") == 0);
  EXPECT(dunebox_memory_counterpart(clone, memory, &there, &error) == DUNEBOX_NOT_FOUND);
  MUST(dunebox_reset(sandbox, &error));
  EXPECT(strcmp(dunebox_memory_host(memory), "before") == 0);
  MUST(dunebox_call(next, NULL, 0, &result, &error));
  EXPECT(result.i == 2);
  MUST(dunebox_save(sandbox, path, &error));
  MUST(dunebox_open(path, NULL, &opened, &error));
  unlink(path);
  next_saved = Find(opened, "next", "i32()");
  MUST(dunebox_call(next_saved, NULL, 0, &result, &error));
  EXPECT(result.i == 2);
  dunebox_function_destroy(next_saved);
  EXPECT(dunebox_destroy(opened) == DUNEBOX_OK);
  EXPECT(dunebox_open(cases_path, NULL, &none, &error) == DUNEBOX_INVALID_ARGUMENT && none == NULL);
  EXPECT(dunebox_save(sandbox, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_snapshot(NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_clone(sandbox, NULL, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_find_counterpart(clone, NULL, &next_there, &error) == DUNEBOX_INVALID_ARGUMENT);
  EXPECT(dunebox_memory_free(there) == DUNEBOX_OK);
  EXPECT(dunebox_memory_free(memory) == DUNEBOX_OK);
  dunebox_function_destroy(next_there);
  dunebox_function_destroy(next);
  EXPECT(dunebox_destroy(sandbox) == DUNEBOX_OK);
  EXPECT(dunebox_destroy(clone) == DUNEBOX_OK);
}

struct Case {
  const char* name;
  void (*run)(void);
};
#define CASE(function) \
  { #function, function }
static const struct Case kCases[] = {
    CASE(CallsPassNumbersOfAllKinds),
    CASE(CallsReturnStructures),
    CASE(StructuresGoByValue),
    CASE(CallbacksHaveStructures),
    CASE(PaddingDoesNotCross),
    CASE(MemoryLimitsThatWereReachedAreSaid),
    CASE(ZlibCompressesAndUncompresses),
    CASE(CallbacksReachTheHost),
    CASE(CrashesAreErrorsUntilAReset),
    CASE(EndlessLoopsEndAtTheDeadline),
    CASE(EndlessLoopsEndWithTheirInstructions),
    CASE(DeniedCallsMayEndTheSandbox),
    CASE(MemoryIsCheckedAtItsEdges),
    CASE(StringsGoBothWays),
    CASE(PoliciesAreRead),
    CASE(BadSignaturesAreRefused),
    CASE(WhatIsNotThereIsNotUsed),
    CASE(OneHandleIsForManyThreads),
    CASE(MemoryOfAnOldGuestIsNoneOfTheNew),
    CASE(SnapshotsComeBackAndAreCloned),
};

int main(int argc, char** argv) {
  size_t i, run = 0;
  if (argc < 3) {
    fprintf(stderr, "usage: %s PLUGIN-CASES.so one-wall|two-walls [CASE]\n", argv[0]);
    return 2;
  }
  cases_path = argv[1];
  walls = argv[2];
  for (i = 0; i < sizeof(kCases) / sizeof(kCases[0]); ++i) {
    const int before = failures;
    if (argc > 3 && strcmp(argv[3], kCases[i].name) != 0) continue;
    kCases[i].run();
    printf("%s %s\n", failures == before ? "ok  " : "FAIL", kCases[i].name);
    fflush(stdout);
    ++run;
  }
  return failures != 0 || run == 0;
}
