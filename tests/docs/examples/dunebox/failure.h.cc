#include <dunebox/failure.h>
#include <dunebox/function.h>
#include <dunebox/memory.h>

#include <string>

using namespace dunebox;

void Log(Failure::Kind kind, const std::string& symbol);

void Example(Function<int(unsigned char*, int)>& decode, const Memory<unsigned char>& pixels) {
@EXAMPLE@
}
