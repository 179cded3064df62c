#include <dunebox/function.h>
#include <dunebox/tainted.h>

using namespace dunebox;

void Example(Function<int()>& get_count) {
@EXAMPLE@
}
