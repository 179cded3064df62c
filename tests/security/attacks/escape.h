// Native code in the place of a runtime that has been taken over: it makes the host calls that such
// code would want, with nothing but wall 2 around it, and says whether one of them got anywhere.
//
//   _exit(Escape("files", {"attacks", "files", "/var/tmp/work", "4711"}));   // prints "verdict: ..."
#ifndef DUNEBOX_TESTS_SECURITY_ATTACKS_ESCAPE_H_
#define DUNEBOX_TESTS_SECURITY_ATTACKS_ESCAPE_H_

#include <string>
#include <string_view>
#include <vector>

namespace dunebox::attacks {

// `arguments`: those of the program `attacks`, see attack.h. Returns 0 when everything was in vain.
int Escape(std::string_view name, const std::vector<std::string>& arguments);

}  // namespace dunebox::attacks

#endif  // DUNEBOX_TESTS_SECURITY_ATTACKS_ESCAPE_H_
