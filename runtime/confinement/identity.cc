#include "runtime/confinement/identity.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/file_descriptor.h"

namespace dunebox::confinement {
namespace {

absl::Status WriteFile(const char* path, const std::string& text) {
  const runtime::FileDescriptor file(open(path, O_WRONLY | O_CLOEXEC));
  // Maps are taken in one write or not at all.
  if (file.valid() && write(file.get(), text.data(), text.size()) >= 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
}

std::string OneLine(unsigned inside, unsigned outside) {
  return absl::StrCat(inside, " ", outside, " 1\n");
}

}  // namespace

UserAndGroup UserAndGroup::Current() { return {.uid = geteuid(), .gid = getegid()}; }

absl::Status MapCaller(const UserAndGroup& outside, const UserAndGroup& inside) {
  absl::Status status = WriteFile("/proc/self/setgroups", "deny");
  if (status.ok()) status = WriteFile("/proc/self/uid_map", OneLine(inside.uid, outside.uid));
  if (status.ok()) status = WriteFile("/proc/self/gid_map", OneLine(inside.gid, outside.gid));
  return status;
}

bool AsksForIdentity(const Identity& identity, const UserAndGroup& caller) {
  return identity.uid.value_or(caller.uid) != caller.uid ||
         identity.gid.value_or(caller.gid) != caller.gid;
}

UserAndGroup IdentityOf(const Identity& identity, const UserAndGroup& caller) {
  return {.uid = identity.uid.value_or(caller.uid), .gid = identity.gid.value_or(caller.gid)};
}

}  // namespace dunebox::confinement
