// How often denials are told.
#include "runtime/process/denial_report.h"

#include <gtest/gtest.h>

namespace dunebox::process {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(RateLimit, TakesAFewAtOnceAndThenOneAnInterval) {
  RateLimit limit(3, milliseconds(250));
  const seconds start(100);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limit.Take(start)) << i;
  EXPECT_FALSE(limit.Take(start));
  EXPECT_FALSE(limit.Take(start + milliseconds(249)));
  EXPECT_TRUE(limit.Take(start + milliseconds(250)));
  EXPECT_FALSE(limit.Take(start + milliseconds(251)));
}

TEST(RateLimit, IsFullAgainAfterAPause) {
  RateLimit limit(3, milliseconds(250));
  while (limit.Take(seconds(100))) {
  }
  int taken = 0;
  while (limit.Take(seconds(200))) ++taken;
  EXPECT_EQ(taken, 3);
}

}  // namespace
}  // namespace dunebox::process
