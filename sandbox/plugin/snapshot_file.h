// Snapshots in files: a header, what DecodeGuest reads, and the contents of memory. Each part has a checksum,
// against damage and not against intent: a file is trusted as a plugin is.
//
// No translated code and no callbacks of the host's are in it.
//
//   absl::Status saved = SaveSnapshot(*snapshot, "/var/cache/png.sandbox");
//   absl::StatusOr<std::shared_ptr<InstanceSnapshot>> again = OpenSnapshot("/var/cache/png.sandbox", SnapshotEngine::kJit, &files);
#ifndef DUNEBOX_SANDBOX_PLUGIN_SNAPSHOT_FILE_H_
#define DUNEBOX_SANDBOX_PLUGIN_SNAPSHOT_FILE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sandbox/plugin/files.h"
#include "sandbox/plugin/snapshot.h"

namespace dunebox::plugin {

// In place of what is there, at once or not at all.
absl::Status SaveSnapshot(const InstanceSnapshot& snapshot, const std::string& path);
// Without code. Files that the guest had open are opened again, as `files` permit it; null: it is for another
// process, which does that (Revive). kInvalidArgument: it is
// no such file, or damaged. kFailedPrecondition: it needs another processor, engine or version, or files that are not
// to be had.
absl::StatusOr<std::shared_ptr<InstanceSnapshot>> OpenSnapshot(const std::string& path,
                                                               SnapshotEngine engine,
                                                               const Files* files);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_SNAPSHOT_FILE_H_
