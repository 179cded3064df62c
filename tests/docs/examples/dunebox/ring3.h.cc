#include <dune/dune.h>
#include <dunebox/ring3.h>

void Run();

void Example() {
@EXAMPLE@
}
