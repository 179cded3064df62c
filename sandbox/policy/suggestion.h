// The known word that somebody may have meant.
//
//   DidYouMean("files.raed", keys)    // "; did you mean 'files.read'?", or ""
#ifndef DUNEBOX_SANDBOX_POLICY_SUGGESTION_H_
#define DUNEBOX_SANDBOX_POLICY_SUGGESTION_H_

#include <string>
#include <string_view>
#include <vector>

namespace dunebox::policy {

// Empty when none is near.
std::string DidYouMean(std::string_view word, const std::vector<std::string>& known);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_SUGGESTION_H_
