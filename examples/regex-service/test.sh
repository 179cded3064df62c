#!/bin/sh
# Ordinary patterns, a bad one, and one that is stopped at its deadline with the service going on.
# usage: test.sh REGEX-SERVICE
set -eu
a=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
got=$(printf '%s\n' "^a+b	aaab" "^x	abc" "(	a" "^(a|aa|a?)+(a|aa|a?)+(a|aa|a?)+\$	${a}b" "colou?r	my color" | "$1")
expected=$(printf '%s\n' "match" "no match" "bad pattern" "too slow" "match")
if [ "$got" != "$expected" ]; then
  echo "regex-service: answered:" >&2
  echo "$got" >&2
  exit 1
fi
