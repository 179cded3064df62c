#!/bin/bash
# Tests the lab itself: what a caller of tests/lab/run may rely on. Ends with "N passed, N failed"; where the lab cannot be had it
# says so and exits 77, which CTest can count as skipped.
# shellcheck disable=SC2016  # the machine's shell is to expand what is in single quotes

set -uo pipefail
folder=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
work=$(mktemp -d "${TMPDIR:-/tmp}/dunebox lab's test.XXXXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit
passed=0 failed=0

lab() { "$folder/run" --timeout 60 "$@"; }

# check SENTENCE COMMAND...: the command's success proves the sentence.
check() {
  if "${@:2}"; then
    passed=$((passed + 1))
    echo "ok    $1"
  else
    failed=$((failed + 1))
    echo "FAIL  $1"
  fi
}

equal() { [[ $1 == "$2" ]] || { echo "      got '$1', expected '$2'" >&2; return 1; }; }

skip_without_a_lab() {
  local message
  message=$(lab true 2>&1)
  [[ $? != 125 ]] || { echo "SKIPPED: $message"; exit 77; }
}

arguments_status_and_directory() {
  local arguments=("two words" "a 'quoted' \"word\"" '$HOME;*\x' '' $'two\nlines' $'\xff') output status
  output=$(lab --env "NAME=a  b'c" -- sh -c 'pwd; echo "$NAME"; printf "<%s>" "$@"; exit 7' sh "${arguments[@]}")
  status=$?
  check "the exit status passes through" equal "$status" 7
  check "directory, environment and every byte of the arguments arrive" \
    equal "$output" "$work"$'\n'"a  b'c"$'\n'"$(printf '<%s>' "${arguments[@]}")"
}

streams() {
  head -c 300001 /dev/urandom >input
  # One copy comes in as standard input, one as a file.
  lab --stdin -- sh -c 'tee /dev/stderr | cat - input; kill -KILL $$' <input >stdout 2>stderr
  check "a command ended by signal 9 gives 137" equal "$?" 137
  check "standard error arrives alone and exact, from exact standard input" cmp input stderr
  check "standard output arrives alone and exact" cmp <(cat input input) stdout
}

writes() {
  echo host >file
  check "writes and deletions work" \
    equal "$(lab sh -c 'echo lab >file && echo lab >new && rm input && cat file new && ls')" \
    $'lab\nlab\nfile\nnew\nstderr\nstdout'
  check "writes and deletions do not reach the host" equal "$(cat file && ls)" $'host\nfile\ninput\nstderr\nstdout'
}

# A guest of 16-bit code: mov al, 42; out 16, al. Succeeds if KVM_RUN comes back with that byte for that port.
write_guest_program() {
  cat <<'EOF'
import fcntl, mmap, struct, ctypes, os
kvm = os.open("/dev/kvm", os.O_RDWR)
vm = fcntl.ioctl(kvm, 0xAE01, 0)
memory = mmap.mmap(-1, 4096)
memory.write(b"\xb0\x2a\xe6\x10")
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
fcntl.ioctl(vm, 0x4020AE46, struct.pack("IIQQQ", 0, 0, 0x1000, 4096, address))   # KVM_SET_USER_MEMORY_REGION
vcpu = fcntl.ioctl(vm, 0xAE41, 0)
run = mmap.mmap(vcpu, fcntl.ioctl(kvm, 0xAE04, 0))
segments = bytearray(312)
fcntl.ioctl(vcpu, 0x8138AE83, segments)                                           # KVM_GET_SREGS
struct.pack_into("QIH", segments, 0, 0, 0xFFFF, 0)                                # cs: base, limit, selector
fcntl.ioctl(vcpu, 0x4138AE84, bytes(segments))
fcntl.ioctl(vcpu, 0x4090AE82, struct.pack("16Q2Q", *[0] * 16, 0x1000, 2))         # KVM_SET_REGS: rip, rflags
fcntl.ioctl(vcpu, 0xAE80, 0)
reason, = struct.unpack_from("I", run, 8)
direction, size, port, count, offset = struct.unpack_from("BBHIQ", run, 32)
print(reason, direction, port, run[offset])
EOF
}

hardware() {
  local output
  write_guest_program >guest.py
  output=$(lab sh -c 'grep -ow -m1 svm /proc/cpuinfo; cat /sys/module/kvm_amd/parameters/npt; /usr/bin/python3 guest.py')
  check "the processor has SVM, KVM uses nested paging, and python3 runs a guest on it" equal "$output" $'svm\nY\n2 1 16 42'
  check "--smp gives processors" equal "$(lab --smp 2 nproc)" 2
}

# With QEMU's clock the same loop never takes the same time twice.
counted_instructions() {
  local loop='import time; t = time.monotonic_ns(); [i for i in range(200000)]; print((time.monotonic_ns() - t) // 1000000)'
  local first second
  first=$(lab --icount /usr/bin/python3 -c "$loop")
  second=$(lab --icount /usr/bin/python3 -c "$loop")
  echo "      $first and $second million instructions"
  check "--icount counts the same work the same within 5%" \
    test "$first" -gt 0 -a $((first * 95)) -le $((second * 100)) -a $((second * 95)) -le $((first * 100))
}

endings() {
  local output
  output=$("$folder/run" --timeout 8 sh -c 'echo before; sleep 100' 2>message)
  check "the timeout exits with 124" equal "$?" 124
  check "what was written before the timeout is not lost" equal "$output" before
  check "the timeout says so" equal "$(<message)" "lab: no result after 8 s, the machine was killed"
  check "a process left behind does not hold the machine" equal "$(lab sh -c 'setsid sleep 100 & echo "ended"')" "ended"
  mkdir bin && ln -s "$(type -P dirname)" "$(type -P readlink)" bin
  PATH=$work/bin "$BASH" "$folder/run" true 2>message
  check "without QEMU the exit status is 125" equal "$?" 125
  check "without QEMU one line says what to install" \
    equal "$(<message)" "lab: qemu-system-x86_64 is missing (Debian: qemu-system-x86)"
}

skip_without_a_lab
arguments_status_and_directory
streams
writes
hardware
counted_instructions
endings
echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
