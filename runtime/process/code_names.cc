#include "runtime/process/code_names.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/separate_descriptors.h"
#include "runtime/diagnostics.h"
#include "runtime/file_descriptor.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"

namespace dunebox::process {

bool CodeNames::MayTellOf(const memory::Backing& file, int fd) const {
  struct stat status {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_dev != file.device ||
      status.st_ino != file.inode) {
    return false;
  }
  const hostcalls::policy::Rules& rules = thread_.owner.session().rules;
  if (rules.allow_all || rules.audit) return true;
  const auto name = hostcalls::ObjectName(thread_.reserved, fd);
  if (!name.ok()) return false;
  return (hostcalls::RightsOnName(rules, *name).rights & hostcalls::policy::kReadFile) != 0;
}

const CodeNames::Known& CodeNames::KnownOf(const memory::Backing& file) {
  const auto [place, is_new] = files_.try_emplace(file.name);
  Known& known = place->second;
  if (!is_new || !file.name.starts_with('/')) return known;
  hostcalls::WithSeparateDescriptors([&] {
    const runtime::FileDescriptor object(open(file.name.c_str(), O_PATH | O_CLOEXEC));
    if (!object.valid() || !MayTellOf(file, object.get())) return;
    const runtime::FileDescriptor readable(
        open(hostcalls::DescriptorPath(object.get()).c_str(), O_RDONLY | O_CLOEXEC));
    if (!readable.valid()) return;
    known = {.symbols = loader::ReadSymbolsHere(readable.get()),
             .frames = loader::FindSectionHere(readable.get(), ".eh_frame")};
  });
  return known;
}

CodeNames::Place CodeNames::PlaceOf(std::uint64_t address) const {
  Place place;
  thread_.owner.space().WithVma(GuestVirt{address}, [&](const memory::Vma* vma) {
    if (vma == nullptr || vma->backing == nullptr) return;
    place = {*vma->backing, address - vma->range.start.value + vma->offset};
  });
  return place;
}

std::optional<loader::SectionPlace> CodeNames::FrameSectionAt(std::uint64_t address) {
  return KnownOf(PlaceOf(address).file).frames;
}

std::string CodeNames::TextAt(std::uint64_t address) {
  std::string text = absl::StrFormat("0x%x", address);
  const Place place = PlaceOf(address);
  if (place.file.name.empty()) return text;
  absl::StrAppend(&text, " ", std::string(runtime::BaseName(place.file.name)),
                  absl::StrFormat("+0x%x", place.offset));
  const std::optional<std::string> function = KnownOf(place.file).symbols.NameAt(place.offset);
  return function ? absl::StrCat(text, " (", *function, ")") : text;
}

}  // namespace dunebox::process
