// The sections of a configuration, each read by one function; only config.cc uses it.
//
//   Read(document, value, "linux", config.linux_part);
#ifndef DUNEBOX_SANDBOX_OCI_CONFIG_PARTS_H_
#define DUNEBOX_SANDBOX_OCI_CONFIG_PARTS_H_

#include <string>

#include "sandbox/oci/config.h"
#include "sandbox/oci/json_fields.h"

namespace dunebox::oci {

void Read(Document& document, const nlohmann::json& value, const std::string& place, Process& out);
void Read(Document& document, const nlohmann::json& value, const std::string& place, Linux& out);
void Read(Document& document, const nlohmann::json& value, const std::string& place,
          Resources& out);

// With the error that it is not: "/x", and of at most as many bytes as the kernel takes.
void CheckAbsolute(Document& document, const std::string& place, const std::string& path);

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_CONFIG_PARTS_H_
