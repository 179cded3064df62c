// Feeds arbitrary records of denials to the learner: a hostile program chooses the names in them.
// Whatever they say, the proposal is a policy file that can be read, with the proposed rules and no
// others in it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "sandbox/policy/learn.h"
#include "sandbox/policy/policy_file.h"

namespace dunebox::policy {
namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "proposal violates: %s\n", what);
  std::abort();
}

void Learn(std::string_view text) {
  const absl::StatusOr<std::vector<LoggedDenial>> denials = ReadDenials(text, "run.log");
  if (!denials.ok()) return;
  const Proposal proposal = Propose(
      *denials, {.home = "/home/ann",
                 .is_directory = [](const std::string& path) { return path.size() % 2 == 0; }});
  Policy policy;
  const std::string file = FormatToml(proposal);
  const absl::Status status = AddPolicyText(policy, file, "p.toml");
  if (!status.ok()) std::fprintf(stderr, "%s\n%s\n", file.c_str(), status.ToString().c_str());
  Require(status.ok(), "it can be read");
  Require(policy.files.size() + policy.network.size() == proposal.rules.size(), "its own rules");
  Require(policy.calls.empty() && policy.environment.empty() && !policy.allow_all, "and no others");
}

}  // namespace
}  // namespace dunebox::policy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  dunebox::policy::Learn({reinterpret_cast<const char*>(data), size});
  return 0;
}
