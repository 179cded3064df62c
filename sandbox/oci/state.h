// The states of containers, one directory each below --root. [OCI runtime-spec, runtime.md "State"]
//
//   ROOT/ID/state.json    what is known of it       ROOT/ID/config.json   as it was when it was created
//   ROOT/ID/start.sock    where it waits for start  ROOT/ID/lock          held by who changes it
//
// A directory is made by mkdir, so one id is one container. `stopped` is never written: it is what the
// process table says, by the process's id and the time it was started at, for ids are used again.
//
//   absl::StatusOr<ContainerDirectory> directory = ContainerDirectory::Open("/run/dunebox", "web");
//   absl::StatusOr<State> state = directory->Load();
//   StateJson(*state)      // {"ociVersion": "1.0.2", "id": "web", "status": "running", ...
#ifndef DUNEBOX_SANDBOX_OCI_STATE_H_
#define DUNEBOX_SANDBOX_OCI_STATE_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"

namespace dunebox::oci {

enum class Status : std::uint8_t { kCreating, kCreated, kRunning, kStopped };
std::string_view NameOf(Status status);

// A process by its id and the time it was started at.
struct ProcessIdentity {
  pid_t pid = 0;
  std::uint64_t start_time = 0;

  static std::optional<ProcessIdentity> Of(pid_t pid);
  // A zombie is not.
  bool IsAlive() const;
  // To this process and no other that has got its id meanwhile.
  absl::Status Signal(int signal) const;
};

struct State {
  std::string version;  // of the configuration
  std::string id;
  Status status = Status::kCreating;
  ProcessIdentity process;
  std::string bundle;  // absolute
  std::string created;
  std::map<std::string, std::string> annotations;
  std::vector<std::string> cgroups;  // directories
  bool has_own_processes = false;    // it was given a new pid namespace
};

// What the specification calls the state: for users, engines and hooks.
std::string StateJson(const State& state);

// A text of JSON, whatever bytes are in it.
std::string Dump(const nlohmann::json& value);
// RFC 3339, UTC.
std::string TimeNow();

// Why `id` cannot be one; OK when it can.
absl::Status CheckId(std::string_view id);

// One container, whatever comes to have its id later: what it reads and writes is in the directory that it has open.
class ContainerDirectory {
 public:
  // Fails with kAlreadyExists when there is one.
  static absl::StatusOr<ContainerDirectory> Make(const std::string& root, const std::string& id);
  // Fails with kNotFound.
  static absl::StatusOr<ContainerDirectory> Open(const std::string& root, const std::string& id);
  // Those that can be read, sorted by id.
  static std::vector<State> List(const std::string& root);

  // Waits until nobody else has it; released when the result is gone. kNotFound: it was removed meanwhile.
  absl::StatusOr<runtime::FileDescriptor> Lock() const;
  absl::Status Save(const State& state) const;
  // With the status as it is now.
  absl::StatusOr<State> Load() const;
  absl::Status SaveConfig(const std::string& text) const;
  absl::StatusOr<std::string> LoadConfig() const;
  // The name of the socket as this process may use it, short however long --root is.
  std::string SocketPath() const;
  // Fine when it is gone already.
  absl::Status Remove() const;

 private:
  ContainerDirectory(std::string path, std::string id, runtime::FileDescriptor fd)
      : path_(std::move(path)), id_(std::move(id)), fd_(std::move(fd)) {}
  bool IsThere() const;
  std::string PathOf(const char* name) const;
  absl::StatusOr<std::string> ReadFile(const char* name) const;
  absl::Status WriteFile(const char* name, const std::string& text) const;

  std::string path_, id_;
  runtime::FileDescriptor fd_;
};

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_STATE_H_
