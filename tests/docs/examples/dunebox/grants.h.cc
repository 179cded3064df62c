#include <dunebox/grants.h>

#include <memory>

using namespace dunebox;

void Example(const Gate& sign) {
@EXAMPLE@
}
