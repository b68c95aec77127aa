-- A small shop: load, index, join, aggregate, update, text, window functions. Prints what it found.
CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE item(id INTEGER PRIMARY KEY, title TEXT, price REAL);
CREATE TABLE sale(id INTEGER PRIMARY KEY, customer INT, item INT, day INT, amount INT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800)
INSERT INTO customer SELECT i, printf('customer %04d', i * 7919 % 800), char(65 + i * 31 % 20) || 'town' FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
INSERT INTO item SELECT i, 'item ' || hex(i * 2654435761 % 65536), (i * 37 % 1000) / 8.0 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
INSERT INTO sale SELECT i, i * 48271 % 800 + 1, i * 16807 % 300 + 1, i / 40, i % 7 + 1 FROM n;
COMMIT;
CREATE INDEX sale_customer ON sale(customer);
CREATE INDEX sale_item_day ON sale(item, day);
SELECT city, count(*), round(sum(amount * price), 2) FROM sale JOIN customer ON customer.id = sale.customer
    JOIN item ON item.id = sale.item GROUP BY city ORDER BY 3 DESC;
SELECT day / 30, count(DISTINCT customer), sum(amount) FROM sale GROUP BY 1 ORDER BY 1;
SELECT title, (SELECT sum(amount) FROM sale WHERE item = item.id AND day BETWEEN 50 AND 200) AS sold
    FROM item WHERE title LIKE '%A%' ORDER BY sold DESC, title LIMIT 20;
SELECT customer, day, sum(amount) OVER (PARTITION BY customer ORDER BY day, id) FROM sale
    WHERE customer IN (3, 77, 401) ORDER BY 1, 2, 3;
UPDATE item SET price = price * 1.1 WHERE id IN (SELECT item FROM sale GROUP BY item HAVING sum(amount) > 150);
DELETE FROM sale WHERE day % 10 = 3;
SELECT count(*), sum(length(replace(title, 'E', 'ee'))), round(avg(price), 4) FROM item, sale WHERE item.id = sale.item;
SELECT upper(substr(name, 3, 8)), group_concat(city, '/') FROM customer WHERE id % 97 = 5 GROUP BY 1 ORDER BY 1;
PRAGMA integrity_check;
