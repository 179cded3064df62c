# sandbox: prefixed
# needs: busybox
cat >"$HOME/s" <<'END'
cd "$1"; seq 1 1000 | grep 9 | wc -l; x=$(echo sub | tr a-z A-Z); echo $x
trap 'echo usr1' USR1; kill -USR1 $$; (exit 3); echo $?; sleep 100 & kill $!; wait $!; echo $?
f() { local n=$1; [ $n -gt 0 ] && f $((n - 1)) || echo bottom; }; f 50
cat <<E
here $x
E
for i in 1 2 3 4 5; do (echo $i >f$i) & done; wait; cat f?; tar cf t.tar f?; rm f?; tar xf t.tar; md5sum f3; rm t.tar
echo a b c | while read a b c; do echo $c $b $a; done; printf 'x\ny\n' | sed s/x/z/ | sort -r; find . -type f | sort; awk 'BEGIN { print 2 * 512 }'
busybox sh -c 'kill -9 $$'; echo $?; exec busybox sh -c 'echo last; exit 5'
END
$RUN "$(command -v busybox)" ash "$HOME/s" "$PWD"; echo "status $?"
