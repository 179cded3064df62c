# sandbox: whole
# needs: sqlite3
{
  echo 'CREATE TABLE n (id INTEGER PRIMARY KEY, square INTEGER, name TEXT); CREATE INDEX i ON n (name); BEGIN;'
  seq 1 5000 | awk '{ printf "INSERT INTO n VALUES (%d, %d, \047row %d\047);\n", $1, $1 * $1, $1 }'
  echo 'COMMIT; SELECT count(*), sum(square), max(name) FROM n; PRAGMA integrity_check;'
  echo '.mode csv'; echo '.once out.csv'; echo 'SELECT * FROM n WHERE id % 100 = 0;'
  echo '.backup copy.db'; echo 'EXPLAIN QUERY PLAN SELECT * FROM n WHERE name = 1;'; echo '.shell echo from the shell'
  echo 'PRAGMA journal_mode = wal; DELETE FROM n WHERE id > 4000; VACUUM; SELECT count(*) FROM n;'
} | sqlite3 -batch -init /dev/null a.db; echo "status $?"
sqlite3 a.db .dump | sha256sum; sqlite3 a.db 'select nothing' 2>/dev/null; echo "status $?"
sqlite3 :memory: "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 100000) SELECT sum(x) FROM c; SELECT json_extract('{\"a\":[1,2]}', '\$.a[1]');"
for i in 1 2 3; do sqlite3 -cmd '.timeout 10000' a.db "BEGIN IMMEDIATE; INSERT INTO n VALUES (10000 + $i, 0, ''); COMMIT;" & done; wait
sqlite3 a.db 'SELECT count(*), sum(id) FROM n; PRAGMA integrity_check;'; rm a.db
