#!/bin/bash
# /proc/cpuinfo and CPUID say the same of what the engine hides: who looks features up in the text does not use refused ones.
#
#   tests/conformance/cpuinfo_test.sh DUNEBOX ENGINE
. "$(dirname "$0")/frame.sh"

flags() { sed -n '/^flags/{s/.*: //;s/ /\n/g;p;q}' "$1" | sort; }
grep -q '^flags' /proc/cpuinfo || { echo 'skip: /proc/cpuinfo has no flags here'; exit 77; }

for rules in --allow=all --ro=/proc; do
  "$dunebox" run "--engine=$engine" "$rules" -- /bin/cat /proc/cpuinfo >output 2>errors || fail "$rules: cannot be read"
  comm -13 <(flags /proc/cpuinfo) <(flags output) | grep -q . && fail "$rules: has flags that the processor has not"
  # The engines hide these of nearly every processor, and none of those.
  grep -qwE 'xsaves|x2apic|vmx|svm|pku|ospke|rtm|hle|amx_tile' <(flags output) && fail "$rules: has hidden flags"
  for flag in fpu sse2 avx2 avx512f; do
    [[ $(flags /proc/cpuinfo | grep -cx "$flag") -eq $(flags output | grep -cx "$flag") ]] || fail "$rules: other than the processor in $flag"
  done
  # Every processor, and every other line. Frequencies are those of the moment.
  diff <(grep -v -e '^flags' -e '^vmx flags' -e MHz /proc/cpuinfo) <(grep -v -e '^flags' -e '^vmx flags' -e MHz output) >/dev/null ||
    fail "$rules: other lines are changed"
  [[ $(grep -c ^flags output) -eq $(grep -c ^flags /proc/cpuinfo) ]] || fail "$rules: not all processors"
done
finish
