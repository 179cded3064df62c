// What the host's kernel shall forbid this session, whatever happens in the runtime: wall 2.
// [DESIGN D6]
//
// Values only, compiled from a policy by sandbox/policy; runtime/confinement carries them out once
// a session, before the first guest instruction. A mechanism that this machine does not have is
// left out and told by `dunebox doctor`, unless it is required: then the session does not start.
//
//   Plan plan{.mounts = {{.kind = MountKind::kBind, .source = "/usr", .target = "/usr"}}};
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_PLAN_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dunebox::confinement {

enum class Mechanism : std::uint8_t {
  kSeccomp,
  kLandlock,
  kUserNamespace,
  kMountNamespace,
  kPidNamespace,
  kNetworkNamespace,
  kIpcNamespace,
  kUtsNamespace,
  kCgroup,
};
inline constexpr int kMechanismCount = 9;

enum class MountKind : std::uint8_t {
  kBind,     // `source`, of the host's, appears at `target`
  kTmpfs,    // private and empty, writable
  kProc,     // of the session's pid namespace
  kDevices,  // null, zero, full, random, urandom, tty, ptmx, pts, shm, fd
  kSymlink,  // a link at `target` with the text `source`; the host has it, too: /bin
  kHidden,   // nothing is to be seen of what `target` leads to, if anything is there
};

struct Mount {
  MountKind kind = MountKind::kBind;
  std::string source;  // with kBind: absolute, resolved; with kSymlink: the link's text
  std::string target;  // absolute, as the program names it
  bool writable = false;
  bool executable = true;  // may programs of it be executed or mapped PROT_EXEC?
  std::uint64_t size = 0;  // with kTmpfs, and of /dev/shm: bytes; 0: the kernel's default
};

// Of absolute paths: is it the tree's own, or below it?
inline bool IsIn(std::string_view path, std::string_view tree) {
  if (tree == "/") return true;
  return path.starts_with(tree) && (path.size() == tree.size() || path[tree.size()] == '/');
}

struct Identity {
  std::optional<std::uint32_t> uid, gid;  // as the program sees itself
  std::string hostname;                   // empty: the host's
};

struct Plan {
  // Nothing at all is done: what --allow=all means.
  bool confine = false;
  // The session begins in its namespaces: none is made, and mounts and identity say nothing.
  bool is_in_place = false;
  // What the program has of its caller's capabilities, one bit each.
  std::uint64_t kept_capabilities = 0;
  std::vector<Mechanism> required;
  // In this order. Nothing but these is visible when there is a mount namespace.
  std::vector<Mount> mounts;
  bool own_network = true;  // a network namespace with loopback only
  // Landlock's TCP rules: these ports alone, or any.
  std::vector<std::uint16_t> connect_ports, bind_ports;
  bool any_connect_port = false, any_bind_port = false;
  bool own_processes = true;  // a pid namespace: nothing outside is visible or signalled
  Identity identity;
};

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_PLAN_H_
