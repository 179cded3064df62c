// `dunebox doctor`: what this machine offers, what is missing and what to do about it.
//
//   return RunDoctor(ReportFormat::kText);
#ifndef DUNEBOX_RUNTIME_DOCTOR_DOCTOR_H_
#define DUNEBOX_RUNTIME_DOCTOR_DOCTOR_H_

namespace dunebox::doctor {

enum class ReportFormat : unsigned char { kText, kJson };

// Examines this machine and prints the report to stdout. Returns what `dunebox doctor` exits with:
// 0 when some engine can run programs, 1 when none can, 125 when stdout cannot be written.
int RunDoctor(ReportFormat format);

}  // namespace dunebox::doctor

#endif  // DUNEBOX_RUNTIME_DOCTOR_DOCTOR_H_
