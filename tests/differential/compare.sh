#!/bin/bash
# Runs a program natively and in the sandbox, from the same fresh directory with the same input and environment, and compares what
# it wrote to stdout, its exit status (128+n for signal n) and the files it left behind.
#
#   tests/differential/compare.sh [OPTION...] DUNEBOX ENGINE PROG [ARGUMENT...]      ENGINE: kvm, jit, or jit:ISOLATION
#     --stdin FILE       standard input; default: /dev/null
#     --stderr           compare standard error too
#     --each 'A B ...'   run PROG once for each of these words, given as one more argument
#     --interrupt        send SIGINT to the process group once the program has written a line
#     --seconds N        for one run of the program; default: 120
#
# Exit status: 0 the same, 1 different, 77 the program says "skip: ..." and exits with 77 natively, 2 wrong use.
set -uo pipefail
shopt -s nullglob dotglob
export LC_ALL=C

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
  exit 2
}

input=/dev/null compare_stderr='' each='' interrupt='' seconds=120
while [[ ${1:-} == --* ]]; do
  case $1 in
    --stdin) input=$(realpath "$2"); shift ;;
    --stderr) compare_stderr=1 ;;
    --each) each=$2; shift ;;
    --interrupt) interrupt=1 ;;
    --seconds) seconds=$2; shift ;;
    *) usage ;;
  esac
  shift
done
[[ $# -ge 3 ]] || usage
dunebox=$(realpath "$1") engine=$2 program=$(realpath -s "$3")
engine_options=("--engine=${engine%%:*}")
[[ $engine != *:* ]] || engine_options+=("--jit-isolation=${engine#*:}")
if [[ $engine == kvm && ! (-r /dev/kvm && -w /dev/kvm) ]]; then
  echo 'skip: /dev/kvm cannot be used here'
  exit 77
fi
shift 3
arguments=("$@")

work=$(mktemp -d "${TMPDIR:-/tmp}/dunebox-compare.XXXXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
ulimit -c 0

environment=(PATH=/usr/local/bin:/usr/bin:/bin HOME=/ LC_ALL=C TZ=UTC 'SPACED=two words' EMPTY=)

# Of each kind of run, native and sandboxed, a folder with what is compared: status, out, list, files; and err if it is.
native_err=$work/native.err sandboxed_err=$work/sandboxed.err
[[ ! $compare_stderr ]] || native_err=$work/native/err sandboxed_err=$work/sandboxed/err

# once KIND ARGUMENT...: appends to out, err and status of KIND.
once() {
  local kind=$1 status=0
  local -n err=${kind}_err
  shift
  local command=(env -i "${environment[@]}")
  [[ $kind == native ]] || command+=("$dunebox" run "${engine_options[@]}" --allow=all --)
  command+=("$program" ${arguments[@]+"${arguments[@]}"} "$@")
  if [[ $interrupt ]]; then
    interrupted "$kind" "${command[@]}"
  else
    timeout --foreground --kill-after=5 "$seconds" "${command[@]}" \
      <"$input" >>"$work/$kind/out" 2>>"$err" || status=$?
    echo "$status" >>"$work/$kind/status"
  fi
}

# In a session of its own, so that the signal goes to the program's whole process group and nobody else.
interrupted() {
  local kind=$1 status=0 group deadline=$((SECONDS + seconds))
  local -n err=${kind}_err
  shift
  # In the background bash would have SIGINT ignored, and that is inherited.
  /usr/bin/python3 -c 'import os, signal, sys
os.setsid()
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])' "$@" <"$input" >>"$work/$kind/out" 2>>"$err" &
  group=$!
  until [[ -s $work/$kind/out ]] || ((SECONDS >= deadline)) || ! kill -0 "$group" 2>/dev/null; do sleep 0.02; done
  sleep 0.1
  kill -INT -- "-$group"
  # It ends by itself when the program has: a sleep that is left over would keep our standard output open.
  (timeout "$seconds" tail --pid="$group" -s 0.05 -f /dev/null || kill -KILL -- "-$group") >/dev/null 2>&1 &
  local watchdog=$!
  wait "$group" 2>/dev/null || status=$?
  wait "$watchdog" 2>/dev/null
  echo "$status" >>"$work/$kind/status"
}

# execute KIND: all runs of one kind, then the files they left become KIND/files.
execute() {
  local kind=$1 word
  local -n err=${kind}_err
  local -a left
  mkdir "$work/$kind" "$work/here" && cd "$work/here" || exit 2
  : >"$work/$kind/out" >"$err" >"$work/$kind/status"
  if [[ $each ]]; then
    for word in $each; do
      echo "== $word" >>"$work/$kind/status"
      once "$kind" "$word" 2>/dev/null
    done
  else
    once "$kind"
  fi
  left=(*)
  cd "$work" || exit 2
  mv here "$kind/files"
  # Most leave none, and where processors are emulated a process takes 50 ms to start.
  if [[ ${#left[@]} -gt 0 ]]; then find "$kind/files" -mindepth 1 -printf '%P %y %m %n %l\n' | sort; fi >"$kind/list"
}

# different WHAT PART: says how, if it is.
different() {
  local difference
  difference=$(diff -r --no-dereference --text "$work/native/$2" "$work/sandboxed/$2" 2>&1 | head -n 40)
  [[ $difference ]] || return
  printf '%s: %s differs (< native, > sandboxed)\n' "${program##*/}" "$1"
  printf '%s\n' "$difference" | cut -c 1-200 | sed 's/^/    /'
}

execute native
if [[ $(<"$work/native/status") == 77 ]]; then
  cat "$work/native/out"
  exit 77
fi
execute sandboxed
# All at once, for the same reason.
if ! diff -r --no-dereference --text "$work/native" "$work/sandboxed" >/dev/null 2>&1; then
  different 'exit status' status
  different 'standard output' out
  [[ -z $compare_stderr ]] || different 'standard error' err
  different 'the list of files' list
  different 'the content of files' files
  head -n 5 "$sandboxed_err" | cut -c 1-200 | sed 's/^/    sandboxed stderr: /'
  exit 1
fi
# A program that fails the same way twice compares nothing; what may end other than with 0 says so by --each or --interrupt.
if [[ -z $each && -z $interrupt ]] && [[ $(<"$work/native/status") != 0 ]]; then
  printf '%s: fails natively too, with %s\n' "${program##*/}" "$(<"$work/native/status")"
  tail -n 5 "$work/native/out" "$native_err"
  exit 1
fi
