# sandbox: whole
# needs: git
# not compared: */.git/index
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE='2001-02-03T04:05:06Z' GIT_COMMITTER_DATE='2001-02-03T04:05:06Z'
git init -q -b main one 2>&1; cd one || exit; git config gc.auto 0
for i in {1..5}; do seq "$i" 200 >"file$i"; git add .; git commit -q -m "commit $i"; done
git checkout -q -b topic; echo changed >>file1; git commit -q -am topic; git checkout -q main; echo more >>file2; git commit -q -am main
git merge -q -m merged topic; git log --oneline --graph --stat | cat; git tag -a v1 -m one; git status --short
git diff HEAD~2 | sha256sum; git grep -c 77; git rev-list --all --objects | wc -l; git fsck --strict 2>&1 | tail -n 1
git stash list; echo dirty >>file3; git stash -q; git stash pop -q; git checkout -q -- file3; git blame -s file1 | tail -n 1
git repack -adq --threads=1; git count-objects -v | grep -v size
cd ..; git clone -q one two; git -C two log -1 --format=%H; git -C two describe
git clone -q --bare "file://$PWD/one" three.git; git -C two push -q "$PWD/three.git" HEAD:refs/heads/pushed 2>&1; git -C three.git branch --list | cat
git -C two fetch -q ../three.git pushed; git -C two rev-parse FETCH_HEAD; git -C two format-patch -q -1 HEAD~1 --stdout | sha256sum; git -C two archive HEAD | tar t
