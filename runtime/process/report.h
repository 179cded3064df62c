// The end of a process, as --stats and --jit-dump tell of it: one line a value, each beginning with
// "dunebox: [PID] ", or one JSON object. One write for all the statistics and one for the dump, so
// that those of several processes do not mix.
#ifndef DUNEBOX_RUNTIME_PROCESS_REPORT_H_
#define DUNEBOX_RUNTIME_PROCESS_REPORT_H_

namespace dunebox::process {

class Process;

// The process's program is about to end, by exit or by execve. Of a vforked child nothing is said:
// it runs on its parent's engine and is in its parent's numbers.
void ReportEnd(Process& process);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_REPORT_H_
