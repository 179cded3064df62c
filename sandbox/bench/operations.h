// The operations of `dunebox bench`, as they run in the measured process: natively or inside, the same code.
//
//   dunebox --operation=trap     prints the nanoseconds of one, as a number and "\n"
#ifndef DUNEBOX_SANDBOX_BENCH_OPERATIONS_H_
#define DUNEBOX_SANDBOX_BENCH_OPERATIONS_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace dunebox::bench {

struct Operation {
  std::string_view name;
  std::string_view what;
  // Does it `count` times; false when it failed.
  bool (*run)(long count);
};
std::span<const Operation> Operations();

// The word behind "--operation=" when the command line is that and nothing else: this process is a measured one.
std::optional<std::string_view> OperationAsked(std::span<const std::string> arguments);

// Runs it for some 30 ms, prints what one took; "nothing" does nothing. The exit status: 0, or 125 with a message.
int RunOperation(std::string_view name);

}  // namespace dunebox::bench

#endif  // DUNEBOX_SANDBOX_BENCH_OPERATIONS_H_
