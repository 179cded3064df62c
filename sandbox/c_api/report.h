// How the library's errors, which are values, leave it: the one place where a status becomes a
// dunebox_status.
//
//   return Report(sandbox.Load(path), error);
#ifndef DUNEBOX_SANDBOX_C_API_REPORT_H_
#define DUNEBOX_SANDBOX_C_API_REPORT_H_

#include "absl/status/status.h"
#include "dunebox.h"

namespace dunebox::c_api {

// `error` may be null.
dunebox_status Report(const absl::Status& status, dunebox_error* error);

// For an argument that is NULL, or a handle that was destroyed: "no sandbox, or one that was
// destroyed".
absl::Status NoObject(const char* what);

}  // namespace dunebox::c_api

#endif  // DUNEBOX_SANDBOX_C_API_REPORT_H_
