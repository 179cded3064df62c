#include <dunebox/sandbox.h>

using namespace dunebox;

void Example() {
@EXAMPLE@
}
