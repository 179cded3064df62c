#include <dunebox/structure.h>

using namespace dunebox;
using namespace dunebox::internal;

@EXAMPLE@
static_assert(sizeof(kPlaces) > 0);
