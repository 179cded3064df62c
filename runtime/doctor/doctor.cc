#include "runtime/doctor/doctor.h"

#include <cerrno>
#include <cstdio>
#include <string>

#include "hostcalls/errors/message.h"
#include "runtime/doctor/checks.h"
#include "runtime/doctor/report.h"
#include "runtime/session.h"

namespace dunebox::doctor {

int RunDoctor(ReportFormat format) {
  const Report report = Examine(ThisHost());
  const std::string text = format == ReportFormat::kJson ? FormatJson(report) : FormatText(report);
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
    errors::Say(errors::Id::kCannotPrint, absl::ErrnoToStatus(errno, "cannot write the report"));
    return runtime::kExitRuntimeError;
  }
  return report.engine.usable() ? 0 : 1;
}

}  // namespace dunebox::doctor
