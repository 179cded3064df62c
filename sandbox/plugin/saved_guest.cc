#include "sandbox/plugin/saved_guest.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace dunebox::plugin {
namespace {

absl::StatusOr<std::shared_ptr<const OpenFile>> OpenAgain(const SavedFile& file,
                                                          const Files* files) {
  if (file.kind != OpenFile::Kind::kFile || files == nullptr) {
    auto named = std::make_shared<OpenFile>();
    named->kind = file.kind;
    named->name = file.name;
    return named;
  }
  hostcalls::CopyResult<OpenFile> opened = files->Open(file.name, LastLink::kFollowed);
  if (opened.ok()) return std::make_shared<const OpenFile>(*std::move(opened));
  return absl::FailedPreconditionError(absl::StrCat(
      file.name, ": was open when the sandbox was saved: ", strerror(opened.error().value)));
}

absl::StatusOr<std::vector<DescriptorState>> OpenFiles(const std::vector<SavedFile>& saved,
                                                       const Files* files) {
  std::vector<DescriptorState> open;
  for (const SavedFile& file : saved) {
    DescriptorState state{.number = file.number,
                          .file = nullptr,
                          .offset = file.offset,
                          .closes_on_exec = file.closes_on_exec};
    if (file.same_as >= 0) {
      state.file = std::ranges::find(open, file.same_as, &DescriptorState::number)->file;
    } else {
      absl::StatusOr<std::shared_ptr<const OpenFile>> opened = OpenAgain(file, files);
      if (!opened.ok()) return opened.status();
      state.file = *std::move(opened);
    }
    open.push_back(std::move(state));
  }
  return open;
}

}  // namespace

SavedGuest Describe(const InstanceSnapshot& snapshot) {
  SavedGuest guest{.features = ProcessorFeatures::OfHost(),
                   .random = snapshot.random,
                   .next_id = snapshot.next_id,
                   .table = snapshot.table,
                   .names = snapshot.names,
                   .threads = snapshot.threads,
                   .actions = snapshot.kernel.actions,
                   .directory = snapshot.kernel.directory,
                   .mask = snapshot.kernel.mask,
                   .arena = snapshot.arena,
                   .shared = snapshot.shared,
                   .memory = snapshot.memory->state(),
                   .contents = snapshot.memory->contents()};
  const std::vector<DescriptorState>& open = snapshot.kernel.descriptors;
  for (const DescriptorState& descriptor : open) {
    const auto first = std::ranges::find(open, descriptor.file, &DescriptorState::file);
    const bool is_file = descriptor.file->kind == OpenFile::Kind::kFile;
    guest.files.push_back({.number = descriptor.number,
                           .kind = descriptor.file->kind,
                           .closes_on_exec = descriptor.closes_on_exec,
                           .same_as = is_file && first->number != descriptor.number ? first->number : -1,
                           .name = descriptor.file->name,
                           .offset = descriptor.offset});
  }
  return guest;
}

absl::StatusOr<InstanceSnapshot> Revive(SavedGuest guest,
                                        std::shared_ptr<const memory::MemoryImage> image,
                                        const Files* files) {
  absl::StatusOr<std::vector<DescriptorState>> open = OpenFiles(guest.files, files);
  if (!open.ok()) return open.status();
  return InstanceSnapshot{
      .memory = std::move(image),
      .code = nullptr,
      .threads = std::move(guest.threads),
      .kernel = {.actions = guest.actions,
                 .directory = std::move(guest.directory),
                 .mask = guest.mask,
                 .descriptors = *std::move(open),
                 .files = files != nullptr ? files->rules() : hostcalls::policy::Rules{}},
      .arena = std::move(guest.arena),
      .shared = std::move(guest.shared),
      .table = guest.table,
      .names = guest.names,
      .next_id = guest.next_id,
      .random = guest.random,
      .callbacks = {}};
}

GuestRange SharedPart(const memory::VmaMap& map) {
  GuestRange part;
  map.ForEach([&](const memory::Vma& vma) {
    if (memory::IsSharedByHost(vma)) part = vma.range;
    return true;
  });
  return part;
}

void MakePrivate(SavedGuest& guest) {
  const GuestRange part = SharedPart(guest.memory.map);
  if (part.empty()) return;
  memory::Vma vma = *guest.memory.map.Find(part.start);
  vma.sharing = memory::Sharing::kPrivate;
  guest.memory.map.Replace(std::move(vma));
  guest.arena.free.merge(guest.shared.free);
  guest.arena.used.merge(guest.shared.used);
  guest.shared = {};
}

}  // namespace dunebox::plugin
