#include <dunebox/function.h>
#include <dunebox/sandbox.h>

using namespace dunebox;

void Example(Sandbox& sandbox, const Memory<unsigned char>& to, const Memory<unsigned long>& to_size,
             const Memory<unsigned char>& from) {
@EXAMPLE@
}
