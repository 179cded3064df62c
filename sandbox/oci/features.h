// What `dunebox oci features` tells engines. [OCI runtime-spec, features.md]
//
//   FeaturesJson()    // {"ociVersionMin": "1.0.0", "hooks": ["prestart", ...
#ifndef DUNEBOX_SANDBOX_OCI_FEATURES_H_
#define DUNEBOX_SANDBOX_OCI_FEATURES_H_

#include <string>

namespace dunebox::oci {

std::string FeaturesJson();

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_FEATURES_H_
