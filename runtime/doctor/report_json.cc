// This file is compiled with exceptions, which the JSON library wants; none is thrown by what is
// used here (text that is not UTF-8 is replaced).
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/doctor/report.h"

namespace dunebox::doctor {

NLOHMANN_JSON_SERIALIZE_ENUM(State, {{State::kOk, "ok"},
                                     {State::kWarning, "warning"},
                                     {State::kMissing, "missing"}})

std::string FormatJson(const Report& report) {
  using Json = nlohmann::ordered_json;
  Json checks = Json::array();
  for (const Check& check : report.checks) {
    checks.push_back({{"name", check.name},
                      {"state", check.state},
                      {"found", check.found},
                      {"advice", check.advice}});
  }
  const Json json = {
      {"version", DUNEBOX_VERSION},
      {"engine",
       {{"usable", report.engine.usable()},
        {"auto", report.engine.usable() ? Json(report.engine.engine) : Json(nullptr)},
        {"reason", report.engine.reason}}},
      {"default_rights", "default policy"},
      {"checks", checks},
  };
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace dunebox::doctor
