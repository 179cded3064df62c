// Small files of the machine under examination (/proc, /etc), where "cannot be read" is a finding
// like any other.
//
//   std::string cpuinfo = HostFileText("/proc/cpuinfo");
#ifndef DUNEBOX_RUNTIME_DOCTOR_HOST_FILE_H_
#define DUNEBOX_RUNTIME_DOCTOR_HOST_FILE_H_

#include <optional>
#include <string>

namespace dunebox::doctor {

// Empty when the file cannot be read.
std::string HostFileText(const std::string& path);

// A file that holds one decimal number, as those below /proc/sys do.
std::optional<long> HostFileNumber(const std::string& path);

}  // namespace dunebox::doctor

#endif  // DUNEBOX_RUNTIME_DOCTOR_HOST_FILE_H_
