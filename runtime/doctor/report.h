// The two forms of a report: aligned text for people, JSON for programs.
//
//   std::string text = FormatText(Examine(ThisHost()));
//   std::string json = FormatJson(Examine(ThisHost()));   // {"version", "engine", "checks"}
#ifndef DUNEBOX_RUNTIME_DOCTOR_REPORT_H_
#define DUNEBOX_RUNTIME_DOCTOR_REPORT_H_

#include <string>

#include "runtime/doctor/check.h"

namespace dunebox::doctor {

std::string FormatText(const Report& report);
std::string FormatJson(const Report& report);

}  // namespace dunebox::doctor

#endif  // DUNEBOX_RUNTIME_DOCTOR_REPORT_H_
