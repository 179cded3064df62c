#include <dunebox/memory.h>
#include <dunebox/sandbox.h>

using namespace dunebox;

void Example(Sandbox& sandbox, Function<int(unsigned char*, int)>& decode) {
@EXAMPLE@
  (void)first;
}
