#include "hostcalls/policy/cure.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "hostcalls/policy/object_name.h"

namespace dunebox::hostcalls::policy {
namespace {

constexpr std::string_view kWidePlaces[] = {
#define WIDE_PLACE(path) path,
#define WIDE_PARENT(path)
#include "hostcalls/policy/wide_places.inc"
#undef WIDE_PLACE
#undef WIDE_PARENT
};

constexpr std::string_view kWideParents[] = {
#define WIDE_PLACE(path)
#define WIDE_PARENT(path) path,
#include "hostcalls/policy/wide_places.inc"
#undef WIDE_PLACE
#undef WIDE_PARENT
};

constexpr std::string_view kDevices = "/dev/";

std::string_view Parent(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

bool IsWide(std::string_view path) {
  return std::ranges::find(kWidePlaces, path) != std::end(kWidePlaces) ||
         std::ranges::find(kWideParents, Parent(path)) != std::end(kWideParents);
}

}  // namespace

std::string CureFor(FileRights missing, const std::string& name) {
  if (KindOf(name) != NameKind::kFile) return "";
  const bool makes = (missing & kCreateFile) != 0;
  const bool changes = makes || (missing & kWriteFile) != 0;
  const std::string flag = changes ? "--rw" : "--ro";
  // What does not exist yet is made in its directory.
  const std::string tree(makes ? Parent(name) : std::string_view(name));
  if (IsWide(tree)) {
    return absl::StrCat(flag, " of what is needed below ", tree, ", not of all that is there");
  }
  const bool is_device = !makes && (missing & kExecuteFile) == 0 && tree.starts_with(kDevices);
  return absl::StrCat(is_device ? "--device" : flag, " ", tree);
}

}  // namespace dunebox::hostcalls::policy
