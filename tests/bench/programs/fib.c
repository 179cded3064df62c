// The AMOUNT-th Fibonacci number by recursion. Compiled without inlining and without sibling calls:
// every addition is a call and a return.
#include "arguments.h"

static long fib(long n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

int main(int argc, char** argv) {
  printf("%ld\n", fib(amount_of_work(argc, argv)));
  return 0;
}
