#!/bin/bash
# The script that dunebox prints for a shell completes what it is to complete, in that shell.
# usage: completion.sh DUNEBOX bash|zsh|fish
set -euo pipefail
dunebox=$1 shell=$2
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v "$shell" >/dev/null; then
  echo "skip: $shell is not installed"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/place"
touch "$work/place/policy.toml"
"$dunebox" completion "$shell" >"$work/script"
"$shell" -n "$work/script"

failed=0
expect() {
  local line=$1 wanted=$2 got
  got=$(timeout 60 "$here/complete_in_$shell" "$work/script" "$line")
  [[ " $got " == *" $wanted "* ]] && return
  printf 'behind "%s" %s has "%s", and not "%s"\n' "$line" "$shell" "$got" "$wanted"
  failed=1
}
refuse() {
  local line=$1 unwanted=$2 got
  got=$(timeout 60 "$here/complete_in_$shell" "$work/script" "$line")
  [[ " $got " != *" $unwanted"* ]] && return
  printf 'behind "%s" %s has "%s", which is not to be there\n' "$line" "$shell" "$got"
  failed=1
}

# The other two list what may stand there; in zsh it is the line that comes of it.
lines() { [[ $shell == zsh ]] && echo "$1" || echo "$2"; }
expect "dunebox pol" "$(lines "dunebox policy" policy)"
expect "dunebox policy ex" "$(lines "dunebox policy explain" explain)"
expect "dunebox completion f" "$(lines "dunebox completion fish" fish)"
expect "dunebox explain E030" "$(case $shell in zsh) echo "dunebox explain E030" ;; *) echo E0301 ;; esac)"
expect "dunebox run --eng" "$(case $shell in bash) echo --engine= ;; zsh) echo "dunebox run --engine=" ;; fish) echo --engine ;; esac)"
expect "dunebox run --engine=k" "$(case $shell in bash) echo kvm ;; zsh) echo "dunebox run --engine=kvm" ;; fish) echo --engine=kvm ;; esac)"
expect "dunebox run --policy $work/place/pol" "$(lines "dunebox run --policy $work/place/policy.toml" "$work/place/policy.toml")"
expect "dunebox run --bind a b --audi" "$(lines "dunebox run --bind a b --audit" --audit)"
expect "dunebox policy check $work/place/pol" "$(lines "dunebox policy check $work/place/policy.toml" "$work/place/policy.toml")"
expect "dunebox run --engine=jit cat $work/place/pol" "$(lines "dunebox run --engine=jit cat $work/place/policy.toml" "$work/place/policy.toml")"
expect "dunebox run -- base6" "$(lines "dunebox run -- base64" base64)"
# What stands behind the program is the program's.
refuse "dunebox run cat --engin" "$(lines "dunebox run cat --engine" --engine)"
exit $failed
