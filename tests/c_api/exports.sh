#!/bin/sh
# The shared library shows the functions of dunebox.h, those that it interposes, and nothing else.
# usage: exports.sh LIBRARY HEADER
set -eu
declared=$({ grep -o 'dunebox_[a-z_]*(' "$2" | grep -v '^dunebox_callback' | tr -d '('; printf "%s\n" sigaction signal bsd_signal ssignal sysv_signal __sysv_signal sigset sigignore sighold sigblock sigsetmask pthread_sigmask sigprocmask sigaltstack; } | sort -u)
exported=$(nm -D --defined-only "$1" | awk '{ print $3 }' | sort -u)
if [ "$declared" != "$exported" ]; then
  echo "c_api: the header declares, and the library exports:" >&2
  echo "$declared" >"${TMPDIR:-/tmp}/declared.$$"
  echo "$exported" | diff "${TMPDIR:-/tmp}/declared.$$" - >&2 || true
  rm -f "${TMPDIR:-/tmp}/declared.$$"
  exit 1
fi
