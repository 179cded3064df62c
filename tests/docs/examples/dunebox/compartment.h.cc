#include <dunebox/compartment.h>

#include <memory>
#include <string>

using namespace dunebox;

void Log(const std::string& line);

void Example(const std::shared_ptr<Region>& page) {
@EXAMPLE@
}
