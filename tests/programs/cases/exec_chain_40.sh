# Each of 40 programs replaces itself by the next: scripts, binaries and fexecve in turn; an open
# descriptor, an environment variable and an ignored signal go along.
# sandbox: prefixed
# needs: /usr/bin/python3
cat >step <<'END'
#!/bin/bash
n=$1; ((n > 0)) || { cat <&7; trap; kill -TERM $$; echo "end $KEPT $(($$ == FIRST))"; exit 40; }
case $((n % 3)) in
  0) exec "$0" $((n - 1)) ;;
  1) exec -a renamed /usr/bin/env bash "$0" $((n - 1)) ;;
  2) exec /usr/bin/python3 -c 'import os, sys; fd = os.open("/bin/bash", os.O_RDONLY | os.O_CLOEXEC); os.execve(fd, ["bash", *sys.argv[1:]], os.environ)' "$0" $((n - 1)) ;;
esac
END
chmod +x step; echo 'through the descriptor' >kept; exec 7<kept
$RUN /bin/bash -c 'trap "" TERM; export KEPT=kept FIRST=$$; exec ./step 40'; echo "status $?"
$RUN /bin/bash -c 'trap "" TERM; for i in 1 2 3; do KEPT=x FIRST=0 ./step 9; echo $?; done' 7<kept; echo "status $?"
$RUN /bin/sh -c 'exec /no/such' 2>/dev/null; echo "status $?"
