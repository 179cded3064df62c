# cmake -D OUTPUT=FILE -D DIRECTORY=DIR -P translator_identity.cmake
#
# A source file with a number that is another one when any file of the translator is.
file(GLOB_RECURSE sources RELATIVE ${DIRECTORY} ${DIRECTORY}/*.cc ${DIRECTORY}/*.h ${DIRECTORY}/*.inc ${DIRECTORY}/*.S)
list(SORT sources)
set(all "")
foreach(source IN LISTS sources)
  file(SHA256 ${DIRECTORY}/${source} hash)
  string(APPEND all "${source} ${hash}\n")
endforeach()
string(SHA256 identity "${all}")
string(SUBSTRING ${identity} 0 16 identity)
file(WRITE ${OUTPUT} "#include \"jit-fallback/cache/prepared_blocks.h\"

namespace dunebox::jit {

const std::uint64_t kTranslatorIdentity = 0x${identity};

}  // namespace dunebox::jit
")
