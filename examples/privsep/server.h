// The parts of the server behind one interface, with and without walls between them.
#ifndef DUNEBOX_EXAMPLES_PRIVSEP_SERVER_H_
#define DUNEBOX_EXAMPLES_PRIVSEP_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

class Server {
 public:
  virtual ~Server() = default;
  // One client, whose connection this is. What goes wrong with it is no reason to end.
  virtual absl::Status Serve(int connection) = 0;
  // Where its handler would find the private key, had it the right. For attackers, who know
  // everything else.
  virtual std::uint64_t key_address() const = 0;
  // What the handler has used of what it could have had; nothing: nobody looked.
  virtual std::vector<std::string> Learned() const { return {}; }
};

struct Files {
  std::string certificate, key;  // PEM
};
enum class Mode : bool { kEnforce, kLearn };

// Handler and key in compartments of their own.
absl::StatusOr<std::unique_ptr<Server>> MakeSeparated(const Files& files, Mode mode);
// The same libraries as any program has them.
absl::StatusOr<std::unique_ptr<Server>> MakeTogether(const Files& files);

absl::StatusOr<std::string> ReadFile(const std::string& path);

#endif  // DUNEBOX_EXAMPLES_PRIVSEP_SERVER_H_
