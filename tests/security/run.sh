#!/bin/bash
# Runs an attacking program in the sandbox; it says by itself whether it was contained.
#
#   tests/security/run.sh DUNEBOX ENGINE PROGRAM
#
# Exit status: 0 contained, 1 not, 77 skipped ("skip: ..." says why).
set -uo pipefail
dunebox=$1 engine=$2 program=$3
if [[ $engine == kvm && ! (-r /dev/kvm && -w /dev/kvm) ]]; then
  echo 'skip: /dev/kvm cannot be used here'
  exit 77
fi
output=$("$dunebox" run "--engine=$engine" --allow=all -- "$program" 2>&1)
status=$?
printf '%s\n' "$output"
[[ $output == *"${program##*/}: contained"* ]] || { echo "FAILED: exit status $status"; exit 1; }
