#!/bin/bash
# Installs what host applications need, builds one against it that lies elsewhere, by CMake and by pkg-config,
# and runs it: also after the installation was moved.
# usage: test.sh BUILD-DIRECTORY CMAKE C-COMPILER CXX-COMPILER GENERATOR
set -euo pipefail
build=$1 cmake=$2 cc=$3 cxx=$4 generator=$5
consumer=$(cd "$(dirname "$0")/consumer" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for component in shared sandbox; do
  "$cmake" --install "$build" --prefix "$work/first" --component $component >/dev/null
done
mv "$work/first" "$work/prefix"

"$cmake" -S "$consumer" -B "$work/build" -G "$generator" -DCMAKE_PREFIX_PATH="$work/prefix" \
  -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_BUILD_TYPE=Release >/dev/null
"$cmake" --build "$work/build"
"$work/build/from_cpp"
"$work/build/from_c"
"$work/build/with_libdune"
"$work/build/with_ring3"

libraries=$(dirname "$(find "$work/prefix" -name libdunebox.so)")
flags=$(PKG_CONFIG_PATH="$libraries/pkgconfig" pkg-config --cflags --libs dunebox)
# shellcheck disable=SC2086  # words
"$cc" -std=c99 -o "$work/by_pkg_config" "$consumer/main.c" $flags
LD_LIBRARY_PATH=$libraries "$work/by_pkg_config"

flags=$(PKG_CONFIG_PATH="$libraries/pkgconfig" pkg-config --cflags --libs dunebox-libdune)
# shellcheck disable=SC2086  # words
"$cxx" -std=c++20 -o "$work/libdune_by_pkg_config" "$consumer/libdune.cc" $flags
"$work/libdune_by_pkg_config"
