# sandbox: whole
# needs: tar xz zstd gzip bzip2
mkdir -p d/e; seq 100000 >d/numbers; head -c 500000 /dev/zero >d/zeros; ln -s numbers d/soft; ln d/numbers d/hard; truncate -s 2M d/sparse; echo x >d/e/x; chmod 600 d/e/x; touch -d 2001-01-01 d/e/x
pack() { tar --sort=name --mtime=2001-01-01 --owner=0 --group=0 --numeric-owner -cf - "$@"; }
pack d | xz -T2 --block-size=1MiB >d.tar.xz; pack d | zstd -q -T2 >d.tar.zst; pack d | gzip -n >d.tar.gz; pack d | bzip2 >d.tar.bz2; pack -S d >sparse.tar
for f in d.tar.*; do mkdir "out.$f"; tar -xf "$f" -C "out.$f"; diff -r d "out.$f/d" && echo "$f same"; done
tar -tvf d.tar.xz | awk '{ print $1, $3, $6 }'; xz -t d.tar.xz && zstd -q -t d.tar.zst && echo sound; zstdcat d.tar.zst | sha256sum; xzcat d.tar.xz | tar -xO d/hard | md5sum
head -c 1000 d.tar.gz | gzip -t 2>/dev/null; echo "truncated $?"; tar --use-compress-program='zstd -q -19 -T2' -cf - d/numbers | zstd -q -d | tar -t; stat -c '%a %Y' out.d.tar.gz/d/e/x
