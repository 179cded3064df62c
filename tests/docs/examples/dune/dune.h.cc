#include <dune/dune.h>

int Fail(const absl::Status& status);
void UseTablesOfItsOwn();

int Example() {
@EXAMPLE@
  return 0;
}
