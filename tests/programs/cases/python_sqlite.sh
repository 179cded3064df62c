# sandbox: whole
# needs: /usr/bin/python3
/usr/bin/python3 - <<'END'
import os, sqlite3, threading
for mode in ("delete", "wal"):
    db = sqlite3.connect(f"{mode}.db"); print(db.execute(f"pragma journal_mode={mode}").fetchone())
    db.execute("create table t (id integer primary key, n integer, s text)")
    with db: db.executemany("insert into t (n, s) values (?, ?)", ((i * i, f"row {i}") for i in range(5000)))
    try:
        with db: db.execute("insert into t (n) values (1)"); raise ValueError
    except ValueError: pass
    print(db.execute("select count(*), sum(n), max(s) from t").fetchone(), db.execute("pragma integrity_check").fetchone()); db.close()
    def write(k):
        c = sqlite3.connect(f"{mode}.db", timeout=30)
        for i in range(10):
            with c: c.execute("insert into t (id, n, s) values (?, ?, 'x')", (10000 + k * 100 + i, k))
        c.close()
    ts = [threading.Thread(target=write, args=(k,)) for k in range(3)]; [t.start() for t in ts]; [t.join() for t in ts]
    for k in range(3, 6):
        if os.fork() == 0: write(k); os._exit(0)
    print([os.wait()[1] for _ in range(3)])
    db = sqlite3.connect(f"{mode}.db"); print(db.execute("select count(*), sum(id) from t where s = 'x'").fetchone()); db.execute("vacuum into ?", (f"{mode}.copy",)); db.close()
END
status=$?; echo "status $status"
rm -f *.db  # the order of the concurrent writers shows in these
exit $status
