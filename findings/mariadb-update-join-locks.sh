#!/usr/bin/env bash
# MariaDB 11.8.9, READ COMMITTED: an UPDATE that gets its value from a joined subquery keeps the rows that the subquery read locked
# until the end of the transaction. The same subquery as a scalar, in `SET n = (SELECT …)`, locks none of them, and neither does
# INSERT … SELECT … ON DUPLICATE KEY UPDATE. Guessed: at READ COMMITTED what a statement only reads is read without locks, and the two
# ways to write the UPDATE are alike; so a counter that is brought up to date holds up nobody who writes what it counts.
# Needs a Debian machine (its apt sources and keys), not root.
source "$(dirname "${BASH_SOURCE[0]}")/lib/mariadb.sh"

"${client[@]}" finding -e "CREATE TABLE counters (id INT PRIMARY KEY, n INT) ENGINE=InnoDB;
  CREATE TABLE orders (id INT PRIMARY KEY, customer INT, paid INT, KEY (customer)) ENGINE=InnoDB;
  INSERT INTO counters VALUES (1, 0); INSERT INTO orders VALUES (10, 1, 0), (11, 1, 1)"
# The other session writes an order that the first one's statement has counted.
cat >"$work/write" <<'WRITE'
"$(dirname "$0")/other" "SET SESSION innodb_lock_wait_timeout = 1; UPDATE orders SET paid = paid WHERE id = 10;
  SELECT 'the other session goes on'"
WRITE
look() { # STATEMENT
  "${client[@]}" finding 2>&1 <<SQL | sed -E '/^(-+|UPDATE .*|)$/d; s/ at line [0-9]+//' | LC_ALL=C sort
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
START TRANSACTION;
$1;
SELECT 'counted', n FROM counters WHERE id = 1;
system bash $work/write
ROLLBACK;
SQL
}
"${client[@]}" -e 'SELECT VERSION()'
tab=$'\t'
count='SELECT COUNT(*) FROM orders WHERE customer = 1 AND paid >= 0'
actual="$(look "UPDATE counters JOIN (SELECT COUNT(*) AS n FROM orders WHERE customer = 1 AND paid >= 0) AS now SET counters.n = now.n WHERE id = 1")"
seen 'UPDATE … JOIN (SELECT …)' 'ERROR 1205 (HY000): Lock wait timeout exceeded; try restarting transaction' "counted${tab}2"
actual="$(look "UPDATE counters SET n = ($count) WHERE id = 1")"
seen 'UPDATE … SET n = (SELECT …)' "counted${tab}2" 'the other session goes on'
actual="$(look "INSERT INTO counters SELECT 1, COUNT(*) FROM orders WHERE customer = 1 AND paid >= 0 ON DUPLICATE KEY UPDATE n = VALUES(n)")"
seen 'INSERT … SELECT … ON DUPLICATE KEY UPDATE' "counted${tab}2" 'the other session goes on'
