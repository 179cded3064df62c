#!/bin/bash
# dunebox prepare: later runs take what it has translated, do the same with it as without, and take nothing that
# somebody else could have written.
# usage: prepare.sh DUNEBOX ISOLATION
set -euo pipefail
dunebox=$1 isolation=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
fail() { echo "$*"; exit 1; }
if [[ $isolation == pku ]] && ! "$dunebox" run --engine=jit --jit-isolation=pku -- true 2>"$work/why"; then
  echo "skip: $(cat "$work/why")"
  exit 77
fi
dir=$work/prepared
with=(--jit-isolation="$isolation" --jit-prepared="$dir")

# What `dunebox run` says in --stats of the last program.
count() { sed -n "s/.*stats: $1 //p" "$work/stats" | tail -1; }
run() { "$dunebox" run --engine=jit "${with[@]}" --stats --stats-file="$work/stats" "$@"; }

status=0
"$dunebox" prepare "${with[@]}" -- sh -c 'echo from the program; exit 3' >"$work/out" || status=$?
[[ $status == 3 && "$(cat "$work/out")" == "from the program" ]] || fail "prepare: $status, $(cat "$work/out")"
[[ "$(ls "$dir" | tr '\n' ' ')" == "guest.code $isolation.blocks " ]] || fail "made: $(ls "$dir")"

program='for i in 1 2 3; do echo "$i $(echo $((i * 7)) | sed s/1/x/)"; done; exit 5'
status=0
sh -c "$program" >"$work/expected" || status=$?
mine=0
run -- sh -c "$program" >"$work/out" || mine=$?
[[ $mine == "$status" ]] && cmp "$work/expected" "$work/out" || fail "a run with prepared code: $mine, $(cat "$work/out")"
(($(count blocks.taken) * 10 > $(count blocks) * 8)) || fail "taken: $(cat "$work/stats")"

# Another program comes on top.
size=$(stat -c %s "$dir/$isolation.blocks")
"$dunebox" prepare "${with[@]}" -- expr 6 '*' 7 >"$work/out"
[[ "$(cat "$work/out")" == 42 ]] || fail "expr: $(cat "$work/out")"
(($(stat -c %s "$dir/$isolation.blocks") > size)) || fail "nothing was added"
run -- expr 6 '*' 7 >"$work/out"
(($(count blocks.taken) * 10 > $(count blocks) * 9)) || fail "of expr taken: $(cat "$work/stats")"
[[ "$(cat "$work/out")" == 42 ]] || fail "expr with prepared code: $(cat "$work/out")"
# With each block come those that it leads to and that are near.
(((($(count entries.link_missing) + $(count entries.lookup_miss))) * 2 < $(count blocks))) ||
  fail "came back for blocks: $(cat "$work/stats")"

# The same from what is there, and for another isolation that is asked for.
cp "$dir/$isolation.blocks" "$work/before"
"$dunebox" prepare "${with[@]}"
cmp "$work/before" "$dir/$isolation.blocks" || fail "made anew it is another"
"$dunebox" prepare --jit-isolation=none --jit-prepared="$dir"
[[ -s "$dir/none.blocks" ]] || fail "no file for another isolation"

# Who can read the directory can read the files, and nobody else.
[[ "$(stat -c %a "$dir/$isolation.blocks")" == 644 ]] || fail "mode $(stat -c %a "$dir/$isolation.blocks")"
(umask 077 && "$dunebox" prepare "${with[@]}" && "$dunebox" prepare "${with[@]:0:1}" --jit-prepared="$work/private" -- true)
[[ "$(stat -c %a "$dir/$isolation.blocks" "$work/private" "$work/private/$isolation.blocks" | tr '\n' ' ')" == "644 700 600 " ]] ||
  fail "modes under a umask: $(ls -lR "$dir" "$work/private")"

# The program finds nothing of it among its descriptors.
"$dunebox" run --engine=jit --jit-isolation="$isolation" --jit-prepared=none -- ls /proc/self/fd >"$work/expected"
"$dunebox" run --engine=jit "${with[@]}" -- ls /proc/self/fd >"$work/out"
cmp "$work/expected" "$work/out" || fail "descriptors: $(tr '\n' ' ' <"$work/out")"

# Another user takes what is root's.
if [[ $EUID == 0 ]]; then
  as_other=(setpriv --reuid 65534 --regid 65534 --clear-groups)
  if "${as_other[@]}" test -x "$dunebox" && "${as_other[@]}" "$dunebox" run --engine=jit -- true; then
    taken=$("${as_other[@]}" "$dunebox" run --engine=jit "${with[@]}" --stats -- true 2>&1 | sed -n 's/.*blocks.taken //p')
    ((taken > 500)) || fail "another user takes $taken blocks"
  else
    echo "(another user cannot run dunebox here)"
  fi
fi

# What it cannot use it says, and runs nothing.
refused() { # MESSAGE ARGS...
  local message=$1 status=0
  shift
  "$@" >"$work/out" 2>"$work/err" || status=$?
  [[ $status == 125 && ! -s "$work/out" ]] || fail "$*: $status"
  grep -q "^dunebox: .*$message.*\[E[0-9]*\]$" "$work/err" || fail "$*: $(cat "$work/err")"
}
start=("$dunebox" run --engine=jit "${with[@]}" -- echo ran)
chmod g+w "$dir/$isolation.blocks"
refused "$isolation.blocks: others than its owner can write to it" "${start[@]}"
chmod g-w "$dir/$isolation.blocks"
chmod o+w "$dir"
refused "others than its owner can write to it" "${start[@]}"
refused "others than its owner can write to it" "$dunebox" prepare "${with[@]}" -- echo ran
chmod o-w "$dir"
if [[ $EUID == 0 ]]; then
  chown 12345 "$dir/$isolation.blocks"
  refused "it belongs to somebody else" "${start[@]}"
  chown 0 "$dir/$isolation.blocks"
fi
"${start[@]}" >"$work/out"
[[ "$(cat "$work/out")" == ran ]] || fail "not as before"
ln "$dir/$isolation.blocks" "$work/kept"
head -c 1000 "$work/before" >"$dir/$isolation.blocks.new"
mv "$dir/$isolation.blocks.new" "$dir/$isolation.blocks"
refused "it is cut off" "${start[@]}"
echo "something else, as long as the first bytes of such a file are, and longer: more than sixty-four" >"$dir/other"
mv "$dir/other" "$dir/$isolation.blocks"
refused "it is no file of prepared translations" "${start[@]}"
rm "$dir/$isolation.blocks"
mkfifo "$dir/$isolation.blocks"
refused "it is not a file" "${start[@]}"
rm "$dir/$isolation.blocks"
ln -s "$work/kept" "$dir/$isolation.blocks"
refused "cannot open it" "${start[@]}"
rm "$dir/$isolation.blocks"
refused "No such file" "${start[@]}"
refused "engine jit" "$dunebox" run --engine=kvm --jit-prepared="$dir" -- echo ran
refused "engine jit" "$dunebox" prepare --engine=kvm "${with[@]}" -- echo ran
refused "nothing can be kept there" "$dunebox" prepare --jit-prepared=none -- echo ran
[[ "$("$dunebox" run --engine=jit --jit-prepared=none -- echo ran)" == ran ]] || fail "none"

# A damaged list of what to prepare is not thrown away.
echo damaged >>"$dir/guest.code"
refused "guest.code" "$dunebox" prepare "${with[@]}"
tail -1 "$dir/guest.code" | grep -q damaged || fail "it was thrown away"
echo "$isolation: prepared code is taken, and refused where it has to be"
