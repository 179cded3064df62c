#include <dune/trap.h>

void Unprotect(std::uintptr_t address);

void Example() {
@EXAMPLE@
}
