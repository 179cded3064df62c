// The command line of a program that makes a page of docs/ from a table of the code:
//
//   dunebox_document_errors                  prints the page
//   dunebox_document_errors --write FILE     writes it; the `docs` target of the build does this
//   dunebox_document_errors --check FILE     fails when FILE is not what would be written
#ifndef DUNEBOX_HOSTCALLS_GENERATED_PAGE_H_
#define DUNEBOX_HOSTCALLS_GENERATED_PAGE_H_

#include <span>
#include <string>

namespace dunebox {

// What main returns; `arguments` is argv.
int WriteGeneratedPage(const std::string& page, std::span<char* const> arguments);

}  // namespace dunebox

#endif  // DUNEBOX_HOSTCALLS_GENERATED_PAGE_H_
