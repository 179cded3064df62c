// Text of a plugin's as the host may show it: without what a terminal would obey.
//
//   denials.push_back(ShownLine("read " + path));
#ifndef DUNEBOX_SANDBOX_PLUGIN_SHOWN_TEXT_H_
#define DUNEBOX_SANDBOX_PLUGIN_SHOWN_TEXT_H_

#include <string>

namespace dunebox::plugin {

// Of 4 KiB at most; each control character is a question mark, but for the ends of lines.
std::string ShownText(std::string text);
// The same of one line: those, too.
std::string ShownLine(std::string text);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_SHOWN_TEXT_H_
