#include "runtime/jit/guest_code_writer.h"

#include "jit-fallback/cache/guest_code.h"

namespace dunebox::runtime {

void GuestCodeWriter::Add(const jit::NewCode& code) {
  const bool is_direct = code.kind == jit::CodeKind::kDirectBlock;
  if ((!is_direct && code.kind != jit::CodeKind::kIndirectBlock) || code.is_self_checking ||
      code.is_single || code.guest.empty() || code.guest.size() > jit::kMostGuestCode || left_ == 0) {
    return;
  }
  --left_;
  record_.clear();
  jit::AppendGuestCode(is_direct ? jit::EntryKind::kDirect : jit::EntryKind::kIndirect, code.guest,
                       record_);
  file_.Write(record_);
}

}  // namespace dunebox::runtime
