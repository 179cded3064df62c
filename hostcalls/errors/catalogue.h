// What each message of the command means: its cause and its cure, found by its id.
//
//   const Row* row = FindRow("E0301");
//   std::cout << ExplanationOf(*row);
#ifndef DUNEBOX_HOSTCALLS_ERRORS_CATALOGUE_H_
#define DUNEBOX_HOSTCALLS_ERRORS_CATALOGUE_H_

#include <span>
#include <string>
#include <string_view>

#include "hostcalls/errors/id.h"

namespace dunebox::errors {

struct Row {
  Id id;
  std::string_view name;   // as the code says it: "kNoProgram"
  std::string_view title;  // no capital, no full stop
  std::string_view cause;  // sentences
  std::string_view cure;   // the same
};

// In the order of their ids.
std::span<const Row> AllRows();

// `text` is an id as messages end with it, in small letters if one likes; null: there is none.
const Row* FindRow(std::string_view text);

// For a terminal: title, cause and cure, in lines of 80 columns.
std::string ExplanationOf(const Row& row);

// One line a row, ids and titles.
std::string ListOfAll();

}  // namespace dunebox::errors

#endif  // DUNEBOX_HOSTCALLS_ERRORS_CATALOGUE_H_
