#!/usr/bin/env bash
# MariaDB 11.8.9: in a REPEATABLE READ transaction (the default level) that has read once, SELECT … FOR UPDATE SKIP LOCKED fails with
# error 1020 as soon as it comes to a row that another session committed since, even to one that did not exist before; and the
# whole transaction is rolled back by it, so that the session's next statement commits on its own. Guessed: SKIP LOCKED passes
# over rows, or returns them as they are now, but does not fail; and if a statement fails, its transaction stays open.
# At READ COMMITTED it returns the row. The cause is innodb_snapshot_isolation, which is on by default since 11.6.2.
# Needs a Debian machine (its apt sources and keys), not root.
source "$(dirname "${BASH_SOURCE[0]}")/lib/mariadb.sh"

# A queue with one job. The other session puts a second one in while the first session's transaction is open.
"${client[@]}" -e "CREATE TABLE finding.jobs (id INT PRIMARY KEY, state VARCHAR(10)) ENGINE=InnoDB;
  INSERT INTO finding.jobs VALUES (1, 'ready')"
look() { # LEVEL ID
  # The client repeats a statement that failed, between two rules.
  "${client[@]}" finding 2>&1 <<SQL | sed -E '/^(-+|SELECT .*|)$/d; s/ at line [0-9]+//'
SET SESSION TRANSACTION ISOLATION LEVEL $1;
START TRANSACTION;
SELECT 'jobs before', COUNT(*) FROM jobs WHERE id < $2;
system $work/other "INSERT INTO jobs VALUES ($2, 'ready')"
SELECT 'taken', id FROM jobs WHERE id = $2 FOR UPDATE SKIP LOCKED;
SELECT 'in a transaction', @@in_transaction;
UPDATE jobs SET state = 'mine' WHERE id = 1;
ROLLBACK;
SELECT 'job 1 is', state FROM jobs WHERE id = 1;
UPDATE jobs SET state = 'ready' WHERE id = 1;
SQL
}
"${client[@]}" -e 'SELECT VERSION()'
tab=$'\t'
actual="$(look 'REPEATABLE READ' 2)"
seen 'REPEATABLE READ' "jobs before${tab}1" \
  "ERROR 1020 (HY000): Record has changed since last read in table 'jobs'; try restarting transaction" \
  "in a transaction${tab}0" "job 1 is${tab}mine"
actual="$(look 'READ COMMITTED' 3)"
seen 'READ COMMITTED' "jobs before${tab}2" "taken${tab}3" "in a transaction${tab}1" "job 1 is${tab}ready"
