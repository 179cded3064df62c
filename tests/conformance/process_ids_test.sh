#!/bin/bash
# A process forks whatever its id is: also where the number is half of an address of the runtime's, which mostly begin with 0x5555.
#
#   tests/conformance/process_ids_test.sh DUNEBOX ENGINE
set -uo pipefail
dunebox=$(realpath "$1") engine=$2
readonly half=$((0x5555))

# In a namespace of its own the next id can be chosen.
if [[ ! ${3:-} ]]; then
  unshare --pid --fork --mount-proc sh -c 'echo 100 >/proc/sys/kernel/ns_last_pid' 2>/dev/null || {
    echo 'skip: process ids cannot be chosen here (unshare --pid, ns_last_pid)'
    exit 77
  }
  exec unshare --pid --fork --mount-proc --kill-child "$0" "$dunebox" "$engine" inside
fi

for ((last = half - 8; last <= half; ++last)); do
  echo "$last" >/proc/sys/kernel/ns_last_pid
  output=$("$dunebox" run --engine="$engine" --allow=all -- /bin/sh -c '(exit 3); echo $?; (exit 4); echo $?' 2>&1)
  [[ $output == $'3\n4' ]] || { echo "FAILED: after id $last: $output"; exit 1; }
done
