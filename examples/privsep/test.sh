#!/bin/bash
# Clients are served; what steals the key without compartments does not with them, and is reported.
# usage: test.sh PRIVSEP PYTHON [OPTION OF COMPARTMENTS...]
set -euo pipefail
privsep=$1 python=$2
shift 2
compartments=("$@")
clients=$(cd "$(dirname "$0")" && pwd)/clients.py
work=$(mktemp -d)
server=
stop() {
  if [[ -n "$server" ]]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  server=
}
trap 'stop; rm -rf "$work"' EXIT
fail() {
  echo "privsep: $1" >&2
  cat "$work/errors" >&2
  exit 1
}

cd "$work"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem \
  -out certificate.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null

# start OPTIONS...: sets port and key
start() {
  : >output
  "$privsep" "$@" certificate.pem key.pem >output 2>errors &
  server=$!
  for _ in $(seq 600); do
    grep -q '^key' output && break
    kill -0 "$server" 2>/dev/null || fail "the server has ended"
    sleep 0.1
  done
  port=$(sed -n 's/^port //p' output)
  key=$(sed -n 's/^key //p' output)
}
get() { "$python" "$clients" get "$port" certificate.pem "$1" 2>client-errors; }
# reported TEXT
reported() { grep -qF -- "$1" errors || fail "not reported: $1"; }

# Of the key's file, some bytes that are nowhere else.
secret=$(sed -n 2p key.pem | head -c 24 | od -An -tx1 | tr -d ' \n')
# leaks: whether the handler sends what lies at the key's address
leaks() { get "/read/$key/512" >leaked && grep -q "$secret" leaked; }

start --without-compartments
"$python" "$clients" greet "$port" certificate.pem 3 || fail "no answer without compartments"
leaks || fail "the handler's bug is none: without compartments nothing leaks"
stop

start "${compartments[@]}"
"$python" "$clients" greet "$port" certificate.pem 5 || fail "no answer"
echo | openssl s_client -connect "127.0.0.1:$port" -CAfile certificate.pem -verify_return_error \
  >s_client 2>&1 || fail "openssl s_client does not like it: $(cat s_client)"
if leaks; then fail "the key has leaked"; fi
reported "the handler was refused: read of region 'private key' at offset 0x0"
reported "a client has broken its handler: the plugin was ended by SIGSEGV"
"$python" "$clients" greet "$port" certificate.pem 2 || fail "no answer after the attack"
if get "/write/$key"; then fail "the key was written to"; fi
reported "write of region 'private key' at offset 0x0"
[[ "$(get "/open$work/key.pem")" == "Operation not permitted" ]] || fail "the key's file was opened"
reported "system call openat (calls files)"
# A digest of no size that there is, and one of a size that the handover has not.
[[ "$(get /sign/1)" == 0 && "$(get /sign/100000)" == 0 ]] || fail "the gate signs anything"
"$python" "$clients" greet "$port" certificate.pem 2 || fail "no answer in the end"
kill -0 "$server" || fail "the server has ended"
stop

# What the handler needs is what it is granted.
start --learn "${compartments[@]}" --requests=2
"$python" "$clients" greet "$port" certificate.pem 2 || fail "no answer while it learns"
wait "$server" || fail "ended with $?"
server=
sed 1,3d output | sort >learned
sort >expected <<'END'
calls random
calls time
descriptor 3: read, write
gate sign_gate
region handover: read-write
END
diff learned expected || fail "something else was learnt"
