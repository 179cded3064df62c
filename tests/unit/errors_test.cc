#include "hostcalls/errors/message.h"

#include <gtest/gtest.h>

#include "absl/status/statusor.h"
#include "hostcalls/errors/catalogue.h"

namespace dunebox::errors {
namespace {

TEST(Catalogue, FindsEachRowByItsIdAndNothingElse) {
  for (const Row& row : AllRows()) EXPECT_EQ(FindRow(CodeOf(row.id).data()), &row) << row.name;
  EXPECT_EQ(FindRow("e0301")->id, Id::kNoProgram);
  for (const std::string_view none : {"", "E", "301", "E301", "E00301", "E0300", "X0301", "E0301 "}) {
    EXPECT_EQ(FindRow(none), nullptr) << none;
  }
}

TEST(Catalogue, HasWordsForEachRow) {
  for (const Row& row : AllRows()) {
    EXPECT_FALSE(row.title.empty() || row.title.ends_with('.')) << row.name;
    EXPECT_TRUE(row.cause.ends_with('.')) << row.name;
    EXPECT_TRUE(row.cure.ends_with('.')) << row.name;
  }
}

TEST(Message, KeepsTheFirstNameOfAFailure) {
  const absl::Status inner = Named(Id::kNoProc, absl::UnavailableError("no /proc"));
  const absl::Status outer = Named(Id::kInternal, Behind("at the start", inner));
  EXPECT_EQ(outer.message(), "at the start: no /proc");
  EXPECT_EQ(outer.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(NameOf(outer, Id::kInternal), Id::kNoProc);
  const absl::StatusOr<int> carried = outer;
  EXPECT_EQ(NameOf(carried.status(), Id::kInternal), Id::kNoProc);
}

TEST(Message, HasANameForWhatCameWithoutOne) {
  EXPECT_EQ(NameOf(Behind("here", absl::UnavailableError("?")), Id::kNoMemory), Id::kNoMemory);
  EXPECT_TRUE(Named(Id::kNoMemory, absl::OkStatus()).ok());
}

TEST(Message, BeginsAndEndsAsUsersAndScriptsExpect) {
  EXPECT_EQ(LineOf(Id::kNoProgram, "ls: not found"), "dunebox: ls: not found [E0301]\n");
}

}  // namespace
}  // namespace dunebox::errors
