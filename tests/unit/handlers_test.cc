// Every row that says "handled" has somebody who handles it.
#include <gtest/gtest.h>

#include "hostcalls/table/table.h"
#include "runtime/process/process.h"

namespace dunebox::process {
namespace {

TEST(Handlers, EveryHandledRowIsBound) {
  const hostcalls::HandlerTable handlers = AllHandlers();
  for (const hostcalls::Row& row : hostcalls::AllRows()) {
    const bool handled = row.route == hostcalls::Route::kHandled;
    EXPECT_EQ(handlers.Find(row.number) != nullptr, handled) << row.name;
  }
}

}  // namespace
}  // namespace dunebox::process
