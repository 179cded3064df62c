#include <dunebox/policy.h>

using namespace dunebox;

void Example() {
@EXAMPLE@
}
