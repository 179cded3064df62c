#include "sandbox/oci/features.h"

#include <nlohmann/json.hpp>

#include "sandbox/oci/commands.h"
#include "sandbox/oci/state.h"

namespace dunebox::oci {
namespace {

// Lists of words, from the tables that the parsers read.
constexpr const char* kHooks[] = {
#define OCI_HOOK(name, point) name,
#include "sandbox/oci/names.inc"
};
constexpr const char* kNamespaces[] = {
#define OCI_NAMESPACE(name, kind, flag) name,
#include "sandbox/oci/names.inc"
};
constexpr const char* kCapabilities[] = {
#define OCI_CAPABILITY(name) #name,
#include "sandbox/oci/names.inc"
};
constexpr const char* kMountOptions[] = {
    "bind", "rbind",
#define MOUNT_FLAG(word, flag, value) word,
#define MOUNT_KEPT_APART(word) word,
#define MOUNT_WITHOUT_EFFECT(word) word,
#include "sandbox/oci/mount_options.inc"
};
constexpr const char* kActions[] = {
#define OCI_ACTION(name, action, note) name,
#include "sandbox/policy/oci_names.inc"
};
constexpr const char* kComparisons[] = {
#define OCI_COMPARISON(name, comparison) name,
#include "sandbox/policy/oci_names.inc"
};

}  // namespace

std::string FeaturesJson() {
  const nlohmann::json value = {
      {"ociVersionMin", "1.0.0"},
      {"ociVersionMax", kSpecVersion},
      {"hooks", kHooks},
      {"mountOptions", kMountOptions},
      {"linux",
       {{"namespaces", kNamespaces},
        {"capabilities", kCapabilities},
        {"cgroup", {{"v1", true}, {"v2", true}, {"systemd", false}, {"systemdUser", false}}},
        {"seccomp",
         {{"enabled", true},
          {"actions", kActions},
          {"operators", kComparisons},
          {"archs", {"SCMP_ARCH_X86_64"}}}},
        {"apparmor", {{"enabled", false}}},
        {"selinux", {{"enabled", false}}}}},
      {"annotations", {{"dunebox.version", DUNEBOX_VERSION}}}};
  return Dump(value);
}

}  // namespace dunebox::oci
