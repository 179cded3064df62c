-- Insert, index, join, aggregate. amount.rows says how many rows; -cmd makes that table.
CREATE TABLE item(id INTEGER PRIMARY KEY, kind INTEGER, name TEXT, price REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n, amount WHERE i < amount.rows)
  INSERT INTO item SELECT i, (i * 7919) % 211, 'item ' || ((i * 31337) % 10007), i * 0.37 FROM n;
CREATE INDEX item_name ON item(name);
CREATE TABLE kind(id INTEGER PRIMARY KEY, title TEXT);
INSERT INTO kind SELECT DISTINCT kind, 'kind ' || kind FROM item;
SELECT title, count(*), round(sum(price), 2) FROM item JOIN kind ON item.kind = kind.id
  GROUP BY title ORDER BY 2 DESC, 1 LIMIT 5;
SELECT count(*) FROM item a JOIN item b ON a.name = b.name AND a.id < b.id;
UPDATE item SET price = price * 1.1 WHERE name LIKE '%7';
SELECT round(sum(price), 2), count(DISTINCT name) FROM item;
