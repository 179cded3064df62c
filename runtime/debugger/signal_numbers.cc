#include "runtime/debugger/signal_numbers.h"

#include <signal.h>

namespace dunebox::debugger {
namespace {

constexpr unsigned kUnknown = 143;
constexpr int kFirstRealTime = 32, kLastRealTime = 64;
// 33 to 63 follow each other there, 32 and 64 came later.
constexpr unsigned kRealTime33 = 45, kRealTime32 = 77, kRealTime64 = 78;

struct Row {
  int signal;
  unsigned number;
};
constexpr Row kRows[] = {
#define GDB_SIGNAL(name, number) {name, number},
#include "runtime/debugger/signal_numbers.inc"
#undef GDB_SIGNAL
};

}  // namespace

unsigned ToGdbSignal(int signal) {
  for (const Row& row : kRows) {
    if (row.signal == signal) return row.number;
  }
  if (signal == kFirstRealTime) return kRealTime32;
  if (signal == kLastRealTime) return kRealTime64;
  if (signal > kFirstRealTime && signal < kLastRealTime) {
    return kRealTime33 + static_cast<unsigned>(signal - kFirstRealTime - 1);
  }
  return kUnknown;
}

int FromGdbSignal(unsigned number) {
  for (int signal = 1; signal <= kLastRealTime; ++signal) {
    if (number != kUnknown && ToGdbSignal(signal) == number) return signal;
  }
  return 0;
}

}  // namespace dunebox::debugger
