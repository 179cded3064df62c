# Sourced by the scripts beside it, which are called with DUNEBOX ENGINE. They run in a directory of their own, `work`, which is
# gone afterwards; what a run of theirs prints goes to `output` and `errors` there, and is shown when something is not as it should be.
#
#   parent=/var/tmp                      # of the directory; default: /tmp, which the default policy gives to the program
#   . "$(dirname "$0")/frame.sh"         # dunebox, engine, here, work
#   [[ $status -eq 3 ]] || fail "a plain end: status $status"
#   finish                               # exit status: 0 as it should be, 1 not; 77 is skipped ("skip: ..." says why)
set -uo pipefail
export LC_ALL=C

here=$(realpath "$(dirname "$0")")
dunebox=$(realpath "$1")
readonly here dunebox engine=$2
if [[ $engine == kvm && ! (-r /dev/kvm && -w /dev/kvm) ]]; then
  echo 'skip: /dev/kvm cannot be used here'
  exit 77
fi
work=$(mktemp -d "${parent:-/tmp}/dunebox-$(basename "$0" .sh).XXXXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
failures=0

fail() {
  printf 'FAILED: %s\n' "$*"
  head -n 20 "$work"/{output,errors} 2>/dev/null | cut -c 1-200 | sed 's/^/  /'
  failures=$((failures + 1))
}

finish() {
  ((failures == 0)) || exit 1
  echo "all is as it should be under engine $engine"
  exit 0
}
