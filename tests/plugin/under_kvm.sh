#!/bin/sh
# Runs a test program's cases with its sandboxes under engine kvm.
# usage: under_kvm.sh PROGRAM FILTER
if ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
  echo "skipped: this user has no /dev/kvm" >&2
  exit 77
fi
DUNEBOX_TEST_ENGINE=kvm exec "$1" --gtest_filter="$2"
