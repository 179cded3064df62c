// Exceptions through many frames, and out of callbacks of C code: qsort, bsearch, twalk, an iterator, a signal handler; destructors
// on the way, rethrown and nested, in threads; and the tables of functions that were made by the linker.
#include <pthread.h>
#include <search.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

int alive = 0;
struct Tracked {
  Tracked() { ++alive; }
  ~Tracked() { --alive; }
};

struct Failure : std::runtime_error {
  Failure(const std::string& what, int at) : std::runtime_error(what), where(at) {}
  int where;
};

int comparisons = 0;
int ThrowingComparison(const void* a, const void* b) {
  Tracked tracked;
  if (++comparisons % 37 == 0) throw Failure("comparison", comparisons);
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}

long FromQsort() {
  long sum = 0;
  for (int i = 0; i < 300; ++i) {
    std::vector<int> numbers(50);
    for (int k = 0; k < 50; ++k) numbers[k] = (k * 7919 + i * 31) % 1009;
    try {
      std::qsort(numbers.data(), numbers.size(), sizeof(int), ThrowingComparison);
      sum += 1000000;
    } catch (const Failure& failure) {
      sum = sum * 3 + failure.where;
    }
  }
  return sum;
}

__attribute__((noinline)) int Deep(int depth, int bottom) {
  Tracked tracked;
  std::string local(depth % 40, 'x');
  if (depth == bottom) throw Failure(local, depth);
  return Deep(depth + 1, bottom) + static_cast<int>(local.size());
}

long FromDeep() {
  long sum = 0;
  for (int bottom = 1; bottom <= 2000; bottom = bottom * 2 + 1) {
    try {
      Deep(0, bottom);
    } catch (const std::exception& error) {
      sum = sum * 3 + static_cast<long>(std::string(error.what()).size()) + dynamic_cast<const Failure&>(error).where;
    }
  }
  return sum;
}

long Nested(int depth) {
  try {
    try {
      if (depth == 0) throw 1L;
      return Nested(depth - 1);
    } catch (long value) {
      try {
        throw std::to_string(value + depth);
      } catch (const std::string& text) {
        throw static_cast<long>(text.size()) + value;
      }
    }
  } catch (...) {
    if (depth == 50) {
      try {
        std::rethrow_exception(std::current_exception());
      } catch (long value) {
        return value;
      }
    }
    throw;
  }
}

void ThrowFromSignal(int) { throw Failure("signal", 11); }

// -fnon-call-exceptions: the exception comes from the very load.
__attribute__((noinline)) int Load(const volatile int* from) {
  Tracked tracked;
  return *from;
}

long FromSignals() {
  struct sigaction action = {};
  action.sa_handler = ThrowFromSignal;
  action.sa_flags = SA_NODEFER;
  sigaction(SIGSEGV, &action, nullptr);
  long sum = 0;
  for (int i = 0; i < 200; ++i) {
    try {
      sum += Load(reinterpret_cast<const volatile int*>(16L * i));
    } catch (const Failure& failure) {
      sum += failure.where;
    }
  }
  return sum;
}

struct Base {
  virtual ~Base() = default;
  virtual long Step(long value) = 0;
};
template <int kNumber>
struct Derived : Base {
  long Step(long value) override {
    if (value % 97 == kNumber) throw int{kNumber};
    return value * 3 + kNumber;
  }
};

long FromVirtualCalls() {
  std::vector<std::unique_ptr<Base>> objects;
  objects.push_back(std::make_unique<Derived<1>>());
  objects.push_back(std::make_unique<Derived<2>>());
  objects.push_back(std::make_unique<Derived<3>>());
  objects.push_back(std::make_unique<Derived<4>>());
  unsigned long value = 1;
  for (int i = 0; i < 20000; ++i) {
    try {
      value = static_cast<unsigned long>(objects[(value >> 3) % 4]->Step(static_cast<long>(value % 1000000007)));
    } catch (int number) {
      value = value * 7 + static_cast<unsigned long>(number);
    }
  }
  return static_cast<long>(value);
}

long InThreads() {
  std::vector<std::future<long>> results;
  results.reserve(6);
  for (int i = 0; i < 6; ++i) {
    results.push_back(std::async(std::launch::async, [i]() -> long {
      long sum = 0;
      for (int k = 0; k < 300; ++k) {
        try {
          std::function<void(int)> thrower = [&](int depth) {
            if (depth == 0) throw k * i;
            thrower(depth - 1);
          };
          thrower(k % 20);
        } catch (int value) {
          sum += value;
        }
      }
      if (i == 5) throw Failure("from a thread", 5);
      return sum;
    }));
  }
  long sum = 0;
  for (auto& result : results) {
    try {
      sum = sum * 3 + result.get();
    } catch (const Failure& failure) {
      sum = sum * 3 + failure.where;
    }
  }
  return sum;
}

struct AtExit {
  ~AtExit() { std::printf("destroyed, alive %d\n", alive); }
} at_exit;

struct StaticInitializer {
  StaticInitializer() : value([] {
    try {
      throw 7;
    } catch (int number) {
      return number;
    }
  }()) {}
  int value;
} initialized;

}  // namespace

int main() {
  std::printf("static initializer %d\n", initialized.value);
  std::printf("qsort %ld\n", FromQsort());
  std::printf("deep %ld\n", FromDeep());
  std::printf("nested %ld\n", Nested(50));
  std::printf("signals %ld\n", FromSignals());
  std::printf("virtual calls %ld\n", FromVirtualCalls());
  std::printf("threads %ld, alive %d\n", InThreads(), alive);
  return 0;
}
