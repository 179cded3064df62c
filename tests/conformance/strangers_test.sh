#!/bin/bash
# What executes dunebox in its own place may have children already. They are none of the session's, however it ends.
#
#   tests/conformance/strangers_test.sh DUNEBOX ENGINE
. "$(dirname "$0")/frame.sh"
trap 'kill $(cat "$work"/*.pid) 2>/dev/null; rm -rf "$work"' EXIT

# survives NAME STATUS OPTION... -- COMMAND...: so ends a session of a process with a child, and the child lives on.
survives() {
  local name=$1 status=$2 got
  shift 2
  bash -c 'sleep 300 & echo $! >stranger.pid; exec "$@"' bash "$dunebox" run --engine="$engine" "$@" >output 2>errors
  got=$?
  ((got == status)) || fail "$name: status $got and not $status: $(cat errors)"
  kill "$(cat stranger.pid)" || fail "$name: the stranger was ended"
}

survives "a plain end" 3 --allow=all -- /bin/sh -c 'exit 3'
survives "an end under a policy" 4 -- /bin/sh -c 'exit 4'
survives "a limit" 124 --allow=all --time=300ms -- /bin/sleep 60
# The guardian is the program's parent here, and cannot clear up any more. What it was to end is ended all the same.
survives "no guardian" 137 --allow=all -- /bin/sh -c 'sleep 301 & echo $! >left.pid; kill -KILL $PPID; sleep 60'
! kill -0 "$(cat left.pid)" 2>/dev/null || fail "no guardian: a process of the session's is left"

# A shell's last command is executed in its place, and what takes its output is a child from before.
bash -c "'$dunebox' run --engine=$engine --allow=all -- /bin/echo hi > >(sleep 0.5; cat >log)"
for ((i = 0; i < 100; ++i)); do
  [[ -s log ]] && break
  sleep 0.1
done
[[ $(cat log 2>/dev/null) == hi ]] || fail "who takes the output was ended: '$(cat log)'"

finish
