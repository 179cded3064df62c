#include "sandbox/cli/stat.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "hostcalls/errors/message.h"
#include "runtime/file_descriptor.h"
#include "runtime/text_file.h"
#include "sandbox/cli/records.h"
#include "sandbox/statistics/report.h"
#include "sandbox/statistics/summary.h"

namespace dunebox::cli {
namespace {

using runtime::FileDescriptor;
using statistics::Session;
using statistics::Summary;

struct Measured {
  Summary summary;
  Session session;
};

int Fail(const absl::Status& status) {
  errors::Say(errors::Id::kBadStatistics, status);
  return runtime::kExitRuntimeError;
}

absl::StatusOr<Measured> Measure(runtime::SessionOptions session) {
  // Every process appends a line.
  const absl::StatusOr<FileDescriptor> lines = MemoryForRecords("statistics");
  if (!lines.ok()) return lines.status();
  session.statistics_file.clear();
  session.statistics_fd = lines->get();
  session.diagnostics.statistics = true;
  session.diagnostics.statistics_format = runtime::StatisticsFormat::kJson;
  const auto begin = std::chrono::steady_clock::now();
  Measured measured;
  measured.session.command = absl::StrJoin(session.arguments, " ");
  measured.session.exit_status = runtime::RunSession(session);
  measured.session.elapsed_ns = static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count());
  const absl::StatusOr<std::string> text = ReadAll(lines->get(), "the statistics");
  if (!text.ok()) return text.status();
  absl::StatusOr<Summary> summary = statistics::Summarize(*text);
  if (!summary.ok()) return summary.status();
  measured.summary = *std::move(summary);
  return measured;
}

// In one piece: a collector that reads it meanwhile finds the file of before.
absl::Status WriteMetrics(const std::string& path, const Measured& measured) {
  const std::string part = absl::StrCat(path, ".", getpid(), ".part");
  const FileDescriptor file(open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file.valid()) {
    return errors::Named(
        errors::Id::kNoReportFile,
        absl::ErrnoToStatus(errno, absl::StrCat("--metrics-file: cannot open ", part)));
  }
  absl::Status status = WriteAll(file.get(), FormatMetrics(measured.summary, measured.session), absl::StrCat("to ", part));
  if (status.ok() && rename(part.c_str(), path.c_str()) != 0) {
    status = errors::Named(
        errors::Id::kNoReportFile,
        absl::ErrnoToStatus(errno, absl::StrCat("--metrics-file: cannot rename ", part, " to ", path)));
  }
  if (!status.ok()) unlink(part.c_str());
  return status;
}

// Of a file that is to be written later: is there any hope?
absl::Status CheckPlaceFor(const std::string& path) {
  const std::string directory = runtime::DirectoryFor(path);
  if (access(directory.c_str(), W_OK) == 0) return absl::OkStatus();
  return errors::Named(
      errors::Id::kNoReportFile,
      absl::ErrnoToStatus(errno, absl::StrCat("--metrics-file: cannot write in ", directory)));
}

absl::Status CheckIsRun(const runtime::SessionOptions& session) {
  if (!session.dry_run) return absl::OkStatus();
  return errors::Named(errors::Id::kOptionsDoNotFit,
                       absl::InvalidArgumentError("with --dry-run nothing runs that could be measured"));
}

}  // namespace

int RunStat(const runtime::SessionOptions& session, const StatReport& report, const std::string& metrics_file) {
  if (const absl::Status status = CheckIsRun(session); !status.ok()) return Fail(status);
  FileDescriptor file;
  if (!report.file.empty()) {
    file = FileDescriptor(open(report.file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666));
    if (!file.valid()) {
      return Fail(errors::Named(
          errors::Id::kNoReportFile,
          absl::ErrnoToStatus(errno, absl::StrCat("--stats-file: cannot open ", report.file))));
    }
  }
  if (!metrics_file.empty()) {
    if (const absl::Status status = CheckPlaceFor(metrics_file); !status.ok()) return Fail(status);
  }
  const absl::StatusOr<Measured> measured = Measure(session);
  if (!measured.ok()) return Fail(measured.status());
  const auto& [summary, ended] = *measured;
  const std::string text = report.as_json ? FormatJson(summary, ended) : FormatTable(summary, ended);
  absl::Status status = WriteAll(file.valid() ? file.get() : STDERR_FILENO, text,
                                 file.valid() ? absl::StrCat("to ", report.file) : "to standard error");
  if (status.ok() && !metrics_file.empty()) status = WriteMetrics(metrics_file, *measured);
  return status.ok() ? ended.exit_status : Fail(status);
}

int RunWithMetrics(const runtime::SessionOptions& session, const std::string& metrics_file) {
  if (session.diagnostics.statistics) {
    return Fail(errors::Named(
        errors::Id::kOptionsDoNotFit,
        absl::InvalidArgumentError(
            "--metrics-file and --stats cannot be had together; see 'dunebox stat'")));
  }
  if (const absl::Status status = CheckIsRun(session); !status.ok()) return Fail(status);
  if (const absl::Status status = CheckPlaceFor(metrics_file); !status.ok()) return Fail(status);
  const absl::StatusOr<Measured> measured = Measure(session);
  if (!measured.ok()) return Fail(measured.status());
  const absl::Status status = WriteMetrics(metrics_file, *measured);
  return status.ok() ? measured->session.exit_status : Fail(status);
}

}  // namespace dunebox::cli
