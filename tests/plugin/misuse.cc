// What must not compile: each MISUSE is one mistake of a host's, MISUSE 0 is none.
#include <span>
#include <string>

#include "dunebox/sandbox.h"

using dunebox::Sandbox;
using dunebox::Tainted;
using dunebox::TaintedPtr;

struct Constructed {
  explicit Constructed(int number) : value(number) {}
  int value;
};
union Either {
  int number;
  float part;
};
struct Pair {
  int first;
  short second[2];
};
struct Huge {
  char bytes[256];
};
struct Owner {
  std::string text;
};

int Use(Sandbox& sandbox, Tainted<int> number, TaintedPtr<int> pointer, int* own) {
  auto take = *sandbox.Function<int(int*, int)>("take");
  (void)own;
  (void)number;
  (void)pointer;
#if MISUSE == 0
  (void)take(pointer, number.UnverifiedValue());
  auto add = *sandbox.Function<Pair(Pair)>("add");
  (void)add(Pair{1, {2, 3}});
#elif MISUSE == 1  // a value of the plugin's as a number
  return number;
#elif MISUSE == 2  // in arithmetic
  return number + 1;
#elif MISUSE == 3  // as an index
  return own[number];
#elif MISUSE == 4  // as a condition
  if (number) return 1;
#elif MISUSE == 5  // its pointer followed
  return *pointer;
#elif MISUSE == 6
  return pointer[0];
#elif MISUSE == 7  // its pointer as one of the host's
  int* const same = pointer;
  return same != nullptr;
#elif MISUSE == 8  // the host's pointer given to the plugin
  (void)take(own, 1);
#elif MISUSE == 9  // a pointer to other things
  (void)take(TaintedPtr<char>(1), 1);
#elif MISUSE == 10  // const taken away
  (void)take(TaintedPtr<const int>(1), 1);
#elif MISUSE == 11  // too few arguments
  (void)take(pointer);
#elif MISUSE == 12  // variable arguments
  (void)sandbox.Function<int(const char*, ...)>("printf");
#elif MISUSE == 13  // a structure whose fields cannot be known
  auto by_value = sandbox.Function<int(Constructed)>("take");
  (void)(*by_value)(Constructed(1));
#elif MISUSE == 14  // a union as the result
  auto returned = sandbox.Function<Either()>("make");
  (void)(*returned)();
#elif MISUSE == 15
  auto precise = sandbox.Function<long double(long double)>("round");
  (void)(*precise)(1.0L);
#elif MISUSE == 16  // an object with pointers of the host's in memory that both use
  (void)sandbox.Allocate<Owner>(1);
#elif MISUSE == 17  // a function of the host's without Export
  auto call_back = *sandbox.Function<int(int (*)(int))>("call_back");
  (void)call_back(+[](int value) { return value; });
#elif MISUSE == 18  // a callback that takes what the plugin says for granted
  (void)sandbox.Export<int(int)>([](int value) { return value; });
#elif MISUSE == 19  // a callback with more on the stack than there may be
  (void)sandbox.Export<int(Huge)>([](auto) { return 0; });
#elif MISUSE == 20  // a pointer of the plugin's kept as an opaque value
  Tainted<int*> kept;
  (void)kept;
#elif MISUSE == 21  // a plugin's pointer to its own functions called directly
  TaintedPtr<int()> function;
  return function();
#elif MISUSE == 22  // a result that nobody has looked at
  const int result = take(pointer, 1);
  return result;
#elif MISUSE == 23  // a pointer of the host's as a plugin's
  TaintedPtr<int> made = own;
  (void)made;
#endif
  return 0;
}
