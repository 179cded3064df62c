#include "dune/user.h"

#include <utility>

#include "libdune/backend.h"

namespace dune {
namespace {

absl::Status Unusable() {
  return CurrentMachine() == nullptr ? NotEntered()
                                     : absl::InvalidArgumentError("the table was moved from");
}

}  // namespace

absl::StatusOr<Stop> RunUser(UserContext& context, PageTable& table, const RunOptions& options) {
  PageTable::Implementation* const tables = table.implementation();
  if (tables == nullptr) return Unusable();
  return CurrentMachine()->RunUser(context, *tables, options);
}

absl::StatusOr<UserImage> LoadProgram(const std::string& path, std::span<const std::string> arguments,
                                      std::span<const std::string> environment) {
  absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kEmpty);
  if (!table.ok()) return table.status();
  UserImage image{.table = *std::move(table)};
  absl::Status loaded =
      CurrentMachine()->LoadProgram(path, arguments, environment, *image.table.implementation(),
                                    image.context, image.heap);
  if (!loaded.ok()) return loaded;
  return image;
}

absl::Status CopyFromUser(PageTable& table, void* to, std::uintptr_t from, std::size_t size) {
  PageTable::Implementation* const tables = table.implementation();
  if (tables == nullptr) return Unusable();
  return CurrentMachine()->CopyFromUser(*tables, to, from, size);
}

absl::Status CopyToUser(PageTable& table, std::uintptr_t to, const void* from, std::size_t size) {
  PageTable::Implementation* const tables = table.implementation();
  if (tables == nullptr) return Unusable();
  return CurrentMachine()->CopyToUser(*tables, to, from, size);
}

}  // namespace dune
