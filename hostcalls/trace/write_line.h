// Writing to the user's standard error, or to a file of the user's, from inside a program's
// process, so that the program notices nothing: a line that cannot be written is lost, and neither
// a closed pipe nor a limit on the size of files raises a signal in it.
#ifndef DUNEBOX_HOSTCALLS_TRACE_WRITE_LINE_H_
#define DUNEBOX_HOSTCALLS_TRACE_WRITE_LINE_H_

#include <string_view>

namespace dunebox::hostcalls {

// One write(2) of all of it, "\n" included. Keeps errno. False: not all was written.
bool WriteLine(int fd, std::string_view line);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TRACE_WRITE_LINE_H_
