// Snapshots as what is said of them elsewhere, in a file or to another process: all but the contents of memory,
// translated code and the host's callbacks.
//
//   const std::string bytes = EncodeGuest(Describe(*snapshot));
//   absl::StatusOr<InstanceSnapshot> again = Revive(*DecodeGuest(bytes, window), image, &files);
#ifndef DUNEBOX_SANDBOX_PLUGIN_SAVED_GUEST_H_
#define DUNEBOX_SANDBOX_PLUGIN_SAVED_GUEST_H_

#include <memory>

#include "absl/status/statusor.h"
#include "runtime/memory/memory_image.h"
#include "sandbox/plugin/files.h"
#include "sandbox/plugin/snapshot.h"
#include "sandbox/plugin/snapshot_format.h"

namespace dunebox::plugin {

SavedGuest Describe(const InstanceSnapshot& snapshot);

// With the image of `guest.memory`. What was open is opened again, as `files` permit it; with null it has names
// only, for who describes it to another process. kFailedPrecondition: there is a file that is not to be had.
absl::StatusOr<InstanceSnapshot> Revive(SavedGuest guest,
                                        std::shared_ptr<const memory::MemoryImage> image,
                                        const Files* files);

// The one part of the guest's memory that is shared with its host (IsSharedByHost); empty: there is none.
GuestRange SharedPart(const memory::VmaMap& map);
// That becomes the guest's own: for a process where the host has the guest's memory itself.
void MakePrivate(SavedGuest& guest);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_SAVED_GUEST_H_
