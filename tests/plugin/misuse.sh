#!/bin/bash
# Every mistake in misuse.cc is one to the compiler, and the same file without a mistake is none.
# usage: misuse.sh SOURCE INCLUDE-DIRECTORY COMPILER
set -euo pipefail
source=$1 include=$2 compiler=$3
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
# The headers are read once.
echo '#include "dunebox/sandbox.h"' >"$directory/all.h"
"$compiler" -std=c++20 -I"$include" -x c++-header "$directory/all.h" -o "$directory/all.h.gch"
compile() {
  "$compiler" -std=c++20 -fsyntax-only -include "$directory/all.h" -I"$include" -DMISUSE="$1" "$source"
}
compile 0 || { echo "misuse: what is right does not compile" >&2; exit 1; }
last=$(grep -o 'MISUSE == [0-9]*' "$source" | grep -o '[0-9]*' | sort -n | tail -1)
bad=0
for number in $(seq 1 "$last"); do
  if compile "$number" 2>"$directory/why"; then
    echo "misuse: this compiles:" >&2
    grep -n -A2 "MISUSE == $number\b" "$source" >&2
    bad=1
  fi
  echo "$number: $(grep -m1 'error:' "$directory/why" || true)"
done
exit $bad
