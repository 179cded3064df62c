#!/bin/bash
# The builds for developers that differ most from the one which is installed can be configured. Nothing is built.
#
#   presets.sh SOURCE_DIRECTORY CMAKE PRESET...
set -uo pipefail
source=$1 cmake=$2
shift 2
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
for preset in "$@"; do
  "$cmake" -S "$source" --preset "$preset" -B "$work/$preset" >"$work/said" 2>&1 && continue
  echo "preset $preset:"
  cat "$work/said"
  exit 1
done
