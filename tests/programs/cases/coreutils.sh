# A walk through coreutils and friends.
# sandbox: whole
# needs: sed awk find diff bc
exec 2>&1
umask 022
seq -w 1 500 >numbers; shuf --random-source=numbers numbers >shuffled
sort shuffled | cmp - numbers && echo sorted; sort --parallel=2 -S 64K -T . shuffled | md5sum
cp -a numbers copy; cp --sparse=always --reflink=auto numbers sparse; mv copy moved; ln moved hard; ln -s moved soft
stat -c '%n %s %h %a %F' moved hard soft; readlink -f soft | xargs basename
mkdir -p a/b/c; touch -d 2001-02-03T04:05:06 a/b/c/file; stat -c '%y' a/b/c/file; rmdir a/b 2>&1
chmod 640 moved; stat -c %a moved; chmod u+x,g-r moved; ls -l moved | cut -c 1-10
cut -c 2-3 numbers | uniq -c | head -n 3; paste numbers shuffled | tail -n 2; join numbers numbers | wc -l
comm -12 numbers <(sort shuffled) | wc -l; tac numbers | head -n 1; rev <<<abc; nl numbers | tail -n 1
split -n 3 numbers part.; cat part.* | cmp - numbers && echo split; csplit -s numbers 100 200; wc -l xx*
head -c 5 numbers; echo; tail -n +499 numbers; fold -w 10 <<<abcdefghijklmnop; fmt -w 20 <<<'some words to be filled into lines'
expand <<<$'a\tb'; tr -d 0 <numbers | md5sum; od -A x -t x1z -N 16 numbers; base64 <numbers | base64 -d | cmp - numbers && echo base64
cksum numbers; md5sum numbers; sha1sum numbers; sha512sum numbers | cut -c 1-20; b2sum numbers | cut -c 1-20; sum numbers
dd if=numbers of=block bs=7 count=10 conv=notrunc status=none; wc -c block; truncate -s 1M hole; du -k --apparent-size hole; stat -c %s hole
fallocate -l 8192 full && stat -c %s full; install -m 755 numbers installed; stat -c %a installed
date -u -d @86400 +%F; printf '%05d %x %s\n' 42 255 text; expr 6 \* 7; factor 1234567890; numfmt --to=iec 1048576; bc <<<'2^100'
env -i A=1 B=2 env | sort; nohup echo nohup 2>/dev/null; nice -n 5 nice; test -f numbers && echo test; [ 3 -lt 4 ] && echo bracket
basename /x/y.z .z; dirname /x/y; pathchk -p ok && echo ok; mktemp -d -p . dirXXXXXX | sed 's/dir.*/dir/'; rmdir dir*
id -u; logname 2>/dev/null; uname -s -m; nproc >/dev/null && echo nproc; tty; pwd -P | sed 's/.*\(place\)/\1/'
find . -type f -size +1k | sort | head; find . -newermt 2001-01-01 ! -newermt 2001-12-31 | sort; find a -depth -print -delete
sed -n '/^0*100$/,/^0*103$/p' numbers; sed -i s/^0*// block; awk '{ s += $1 } END { print s, NR }' numbers
diff -u <(head -n 5 numbers) <(head -n 6 numbers) --label old --label new; grep -c 9 numbers; xargs -n 100 <numbers | wc -l
tee one two <<<tee >/dev/null; cat one two; mkfifo p; (cat p >frompipe &) ; echo through >p; until [ -s frompipe ]; do sleep 0.01; done; cat frompipe
sync one; df . >/dev/null && echo df; ls -1a | sort | head -n 50; ls -R | wc -l; dircolors -b >/dev/null && echo dircolors
timeout 5 true && echo timely; sleep 0.01; yes | head -c 100000 | md5sum; cat /proc/self/comm; tail -f numbers --pid=$$ 2>/dev/null & t=$!; sleep 0.1; kill $t; wait $t; echo "tail $?"
shred -n 1 -u one; ls one; realpath --relative-to=/usr /usr/bin/env; stty size </dev/null; who >/dev/null; users >/dev/null; echo done
