// Small text files of /proc, /sys and /etc, read whole.
//
//   if (auto text = ReadTextFile("/proc/cpuinfo")) Use(*text);
#ifndef DUNEBOX_RUNTIME_DOCTOR_TEXT_FILE_H_
#define DUNEBOX_RUNTIME_DOCTOR_TEXT_FILE_H_

#include <optional>
#include <string>

namespace dunebox::doctor {

// Nothing when the file cannot be read. Files of /proc have no size, so it reads to the end.
std::optional<std::string> ReadTextFile(const std::string& path);

// A file that holds one decimal number, as those below /proc/sys do.
std::optional<long> ReadNumberFile(const std::string& path);

}  // namespace dunebox::doctor

#endif  // DUNEBOX_RUNTIME_DOCTOR_TEXT_FILE_H_
