#!/bin/bash
# `dunebox policy learn` with a real program: what it proposes lets the same program run, denies
# what a changed one does beyond it, and grows when runs are merged.
#
#   tests/conformance/policy_learn_test.sh DUNEBOX ENGINE
parent=/var/tmp  # not /tmp, which the default policy gives to the program
. "$(dirname "$0")/frame.sh"
readonly base=$work

mkdir -p "$base"/app "$base"/in "$base"/out "$base"/private
cd "$base/app" || exit 2

cat >work.py <<'EOF'
import os, sys, tempfile
with open(sys.argv[1]) as config:
    value = config.read().strip()
with tempfile.NamedTemporaryFile("w+") as scratch:
    scratch.write(value)
with open(sys.argv[2], "w") as result:
    result.write(value.upper() + "\n")
print("worked on", value)
EOF
sed "s|^print|open('$base/private/key').read(); print|" work.py >changed.py
sed "s|^print|open('$base/private/new', 'w'); print|" work.py >writing.py
echo config >"$base/in/one.conf"
echo other >"$base/in/two.conf"
echo secret >"$base/private/key"

box() { timeout -k 5 250 "$dunebox" "$@" >"$base/output" 2>"$base/errors" </dev/null; }
learn() { box policy learn "--engine=$engine" -o "$base/policy.toml" "$@"; }
run() { box run "--engine=$engine" --policy "$base/policy.toml" -- /usr/bin/python3 "$@"; }
has_line() { grep -qxF -- "$2" "$base/$1" || fail "no line '$2' in $1"; }

# ---- One run ------------------------------------------------------------------------------------

learn -- /usr/bin/python3 work.py "$base/in/one.conf" "$base/out/result"
status=$?
[[ $status -eq 0 ]] || fail "learning ended with $status"
has_line output 'worked on config'
[[ $(<"$base/out/result") == CONFIG ]] || fail 'the program that was learnt from has no result'
has_line policy.toml "  \"$base/in/one.conf\","
has_line policy.toml "  \"$base/out\","
has_line policy.toml "  \"$base/app\","
[[ -s $base/errors ]] && fail 'learning is not silent'
has_line policy.toml '  "/tmp",'
grep -qE '^  # read by python3[.0-9]* \(open(at)?[^)]*\), .*/in/one.conf' "$base/policy.toml" ||
  fail 'the rule does not say why it is there'
grep -qF "$base/private" "$base/policy.toml" && fail 'more is proposed than was used'

rm "$base/out/result"
run work.py "$base/in/one.conf" "$base/out/result"
status=$?
[[ $status -eq 0 ]] || fail "under the learnt policy it ended with $status"
has_line output 'worked on config'
[[ $(<"$base/out/result") == CONFIG ]] || fail 'under the learnt policy there is no result'

# ---- What takes capabilities cannot be learnt, and that is said ----------------------------------

if [[ $EUID -eq 0 ]]; then
  learn -- /usr/bin/python3 -c 'import os; os.setgroups([]); os.setgid(33); os.setuid(33)'
  [[ $? -eq 0 ]] || fail 'learning from a change of user failed'
  for line in 'setgroups), once: CAP_SETGID' 'setgid), once: CAP_SETGID' 'setuid), once: CAP_SETUID' 'allowed by --uid 33'; do
    grep -q "^# Not allowed: use by python3.*$line" "$base/policy.toml" ||
      fail "not told: $line"
  done
  grep -q '^# Not allowed: it was watched with capabilities' "$base/policy.toml" || fail 'not told: it had capabilities'
  learn -- /usr/bin/python3 work.py "$base/in/one.conf" "$base/out/result"
fi

# ---- What was not learnt is denied --------------------------------------------------------------

cp changed.py work.py.new && mv work.py work.kept && mv work.py.new work.py
run work.py "$base/in/one.conf" "$base/out/result"
status=$?
[[ $status -eq 1 ]] || fail "a changed program that reads more ended with $status"
grep -q 'PermissionError\|FileNotFoundError' "$base/errors" || fail 'reading more was not denied'
cp writing.py work.py
run work.py "$base/in/one.conf" "$base/out/result"
status=$?
[[ $status -eq 1 && ! -e $base/private/new ]] || fail "a changed program that writes more: $status"
mv work.kept work.py
run work.py "$base/in/two.conf" "$base/out/result"
status=$?
[[ $status -eq 1 ]] || fail "a file that was not learnt could be read: $status"

# ---- Several runs -------------------------------------------------------------------------------

learn --merge "$base/log" -- /usr/bin/python3 work.py "$base/in/one.conf" "$base/out/result"
learn --merge "$base/log" -- /usr/bin/python3 work.py "$base/in/two.conf" "$base/out/result"
has_line policy.toml "  \"$base/in/one.conf\","
has_line policy.toml "  \"$base/in/two.conf\","
for name in one two; do
  run work.py "$base/in/$name.conf" "$base/out/result" ||
    fail "$name.conf cannot be worked on under the merged policy"
done
cp "$base/policy.toml" "$base/merged.toml"
learn --merge "$base/log" || fail 'no proposal from the log alone'
cmp -s "$base/policy.toml" "$base/merged.toml" || fail 'the log alone gives another proposal'

# What a policy allows is not learnt again.
learn --policy "$base/merged.toml" -- /usr/bin/python3 work.py "$base/in/one.conf" \
  "$base/out/result"
grep -q '^\[files\]' "$base/policy.toml" && grep -qF "$base/" "$base/policy.toml" &&
  fail 'what the policy allows was learnt again'

# ---- Mistakes -----------------------------------------------------------------------------------

box policy learn
status=$?
[[ $status -eq 125 ]] || fail "learning from nothing ended with $status"
echo 'no record' >"$base/log"
learn --merge "$base/log"
status=$?
[[ $status -eq 125 ]] || fail "a log that is none ended with $status"
grep -qF "dunebox: $base/log:1:" "$base/errors" || fail 'the place in the log is not told'

finish
