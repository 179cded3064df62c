// Rules that make a form with the right opcode undefined nevertheless: VEX and EVEX fields that
// must be zero, registers that do not exist, and registers that must differ.
#ifndef DUNEBOX_JIT_FALLBACK_DECODE_VALIDITY_H_
#define DUNEBOX_JIT_FALLBACK_DECODE_VALIDITY_H_

#include "jit-fallback/decode/fields.h"
#include "jit-fallback/decode/opcode_table.h"

namespace dunebox::jit {

// For VEX and EVEX forms.
bool IsValidVector(const Form& form, const Fields& fields);

// For forms with tag::kSpecial.
bool IsValidSpecial(const Form& form, const Fields& fields);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DECODE_VALIDITY_H_
