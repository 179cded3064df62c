#!/bin/bash
# Runs a victim in the sandbox, tells it where the runtime's memory is, and checks from outside that the runtime came to no harm:
# its mappings, the content of those that nobody may write, and its descriptors are after the attack what they were before.
#
#   tests/victims/run.sh [--seconds N] [--nofile N] DUNEBOX ENGINE VICTIM [ARGUMENT...]
#
# ENGINE may be `native`: then the victim runs without a sandbox, to see what the kernel and the CPU do by themselves; or
# `jit:ISOLATION`, skipped where this version or machine does not offer the isolation, as where there are not so many files.
# Exit status: 0 contained, 1 not, 77 skipped ("skip: ..." says why), 2 wrong use.
set -uo pipefail
export LC_ALL=C

seconds=120
nofile=()
while [[ ${1:-} == --* ]]; do
  case $1 in
    --seconds) seconds=$2 ;;
    --nofile) nofile=("$1" "$2") ;;
    *) break ;;
  esac
  shift 2
done
[[ $# -ge 3 ]] || { sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
dunebox=$(realpath "$1") engine=$2 victim=$(realpath "$3") observe=$(realpath "${BASH_SOURCE[0]%/*}/observe")
options=("--engine=${engine%%:*}" "${nofile[@]}")
[[ $engine != *:* ]] || options+=("--jit-isolation=${engine#*:}")
if [[ $engine == kvm && ! (-r /dev/kvm && -w /dev/kvm) ]]; then
  echo 'skip: /dev/kvm cannot be used here'
  exit 77
fi
shift 3

work=$(mktemp -d "${TMPDIR:-/tmp}/dunebox-victim.XXXXXXXX") || exit 2
session=''
clean_up() {
  [[ -z $session ]] || kill -KILL "$session" 2>/dev/null
  [[ -z ${guest:-} ]] || kill -KILL "$guest" 2>/dev/null
  rm -rf "$work"
}
trap clean_up EXIT
# Whoever started this may have left descriptors open; a program inherits them in the sandbox as natively.
for descriptor in "/proc/$$/fd/"*; do
  descriptor=${descriptor##*/}
  ((descriptor <= 2 || descriptor == 255)) || eval "exec $descriptor>&-"
done
mkfifo "$work/input"
mkdir "$work/here"
cd "$work/here" || exit 2
ulimit -c 0

fail() {
  echo "FAILED: ${victim##*/}: $*"
  head -n 60 "$work/output" "$work/errors" | cut -c 1-200
  exit 1
}

if [[ $engine == native ]]; then
  "$victim" "$@" <"$work/input" >"$work/output" 2>"$work/errors" &
else
  "$dunebox" run "${options[@]}" --allow=all -- "$victim" "$@" <"$work/input" >"$work/output" 2>"$work/errors" &
fi
session=$!
exec 3>"$work/input"

# await LINE: until the victim has written it, or is gone.
await() {
  until grep -qs "^$1" "$work/output"; do
    kill -0 "$session" 2>/dev/null || return 1
    ((SECONDS < seconds)) || { echo "no '$1' after $seconds s" >>"$work/errors"; return 1; }
    sleep 0.02
  done
}

# Each mapping is still there with its rights; it may have grown, and there may be more (heap).
mappings_remain() {
  awk '
    function number(text,   i, value) { value = 0; for (i = 1; i <= length(text); ++i) value = value * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1; return value }
    { split($1, ends, "-"); $1 = ""; }
    FNR == NR { start[NR] = number(ends[1]); end[NR] = number(ends[2]); what[NR] = $0; count = NR; next }
    {
      first = number(ends[1]); last = number(ends[2]); line = ends[1] "-" ends[2] $0
      for (i = 1; i <= count; ++i) if (start[i] <= first && end[i] >= last && what[i] == $0) next
      print "    gone or changed: " line; bad = 1
    }
    END { exit bad }' "$2" "$1"
}

await ready || {
  wait "$session"
  status=$?
  if [[ $status == 125 ]] && grep -q 'jit-isolation\|--nofile' "$work/errors"; then
    sed -n 's/^dunebox: /skip: /p' "$work/errors"
    exit 77
  fi
  fail "did not start (exit status $status)"
}
guest=$session
if [[ $engine != native ]]; then
  guest=$("$observe" before "$session" "$work") || fail 'cannot see the runtime from outside'
  for what in mappings content descriptors; do
    [[ -s $work/$what.before ]] || fail "cannot see the runtime's $what from outside"
  done
  cat "$work/mappings.before" >&3
fi
echo go >&3
await over || { wait "$session"; fail "ended during the attack, with exit status $?"; }
if [[ $engine != native ]]; then
  "$observe" after "$guest" "$work" || fail 'cannot see the runtime from outside'
fi
exec 3>&-
status=0
wait "$session" || status=$?
session='' guest=''
if [[ $engine != native ]]; then
  mappings_remain "$work/mappings.before" "$work/mappings.after" || fail "mappings of the runtime changed"
  diff "$work/content.before" "$work/content.after" || fail "the runtime's memory changed"
  diff "$work/descriptors.before" "$work/descriptors.after" || fail "the runtime's descriptors changed"
fi
if [[ $status == 77 ]]; then
  grep '^skip: ' "$work/output"
  exit 77
fi
grep -q "^verdict: .*: contained" "$work/output" && [[ $status == 0 ]] || fail "exit status $status"
# A runtime that complains was not merely told to refuse.
! grep '^dunebox: ' "$work/errors" | grep -qv 'E0706' || fail 'the runtime complained'
grep -v '^ready$\|^over$' "$work/output"
exit 0
