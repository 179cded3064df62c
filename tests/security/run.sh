#!/bin/bash
# Runs an attacking program in the sandbox; it says by itself whether it was contained.
#
#   tests/security/run.sh DUNEBOX ENGINE PROGRAM [ARGUMENT...]
#
# ENGINE is kvm, jit or jit:ISOLATION.
# Exit status: 0 contained, 1 not, 77 skipped ("skip: ..." says why).
set -uo pipefail
dunebox=$1 engine=$2 program=$3
if [[ $engine == kvm && ! (-r /dev/kvm && -w /dev/kvm) ]]; then
  echo 'skip: /dev/kvm cannot be used here'
  exit 77
fi
options=("--engine=${engine%%:*}")
[[ $engine != *:* ]] || options+=("--jit-isolation=${engine#*:}")
output=$("$dunebox" run "${options[@]}" --allow=all -- "$program" "${@:4}" 2>&1)
status=$?
if [[ $status == 125 && $output == *'--jit-isolation'* ]]; then
  echo "skip: ${output#dunebox: }"
  exit 77
fi
printf '%s\n' "$output"
[[ $output == *"${program##*/}: contained"* ]] || { echo "FAILED: exit status $status"; exit 1; }
