#!/usr/bin/env bash
# MariaDB 11.8.9: in a REPEATABLE READ transaction (the default level) that has read once, SELECT … FOR UPDATE SKIP LOCKED fails with
# error 1020 as soon as it comes to a row that another session committed since, even to one that did not exist before; and the
# whole transaction is rolled back by it, so that the session's next statement commits on its own. Guessed: SKIP LOCKED passes
# over rows, or returns them as they are now, but does not fail; and if a statement fails, its transaction stays open.
# At READ COMMITTED it returns the row. The cause is innodb_snapshot_isolation, which is on by default since 11.6.2.
# Needs a Debian machine (its apt sources and keys), not root.
set -euo pipefail
version='1:11.8.9+ds-0+deb13u1'
work="$(mktemp -d)"
server=
cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The server and the libraries it was built with, unpacked, not installed.
mirror="$(grep -rhoE '(https?)://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 | tr -d " " || true)"
mkdir -p "$work"/apt/{lists/partial,cache/archives/partial,debs} "$work/root" "$work/data/mysql"
printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
  "${mirror:-http://deb.debian.org/debian}" >"$work/apt/trixie.sources"
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/apt/trixie.sources" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work/apt/debs" && "${apt[@]}" download "mariadb-server-core=$version" "mariadb-client-core=$version" "mariadb-server=$version" \
  libc6 libstdc++6 libgcc-s1 libssl3t64 zlib1g libpcre2-8-0 liblzma5 liburing2 libsystemd0 libcrypt1 libncurses6 libtinfo6 libedit2 \
  libbsd0 libmd0 libzstd1 libfmt10 libsnappy1v5 liblz4-1 libnuma1 libcap2 libgcrypt20 libgpg-error0 libaio1t64 libreadline8t64)
for package in "$work"/apt/debs/*.deb; do dpkg-deb -x "$package" "$work/root"; done
libraries="$(dirname "$(find "$work/root/usr/lib" -name 'libssl.so.3' | head -1)")"
loader="$(find "$libraries" -name 'ld-linux-*' | head -1)"
run() { "$loader" --library-path "$libraries" "$work/root/usr/$1" "${@:2}"; }
options=(--no-defaults "--datadir=$work/data" "--basedir=$work/root/usr" "--lc-messages-dir=$work/root/usr/share/mariadb"
  --skip-networking "--socket=$work/socket" "--user=$(id -un)")
(
  echo 'use mysql;'
  cd "$work/root/usr/share/mariadb"
  cat mariadb_system_tables.sql mariadb_performance_tables.sql mariadb_system_tables_data.sql
) | run sbin/mariadbd "${options[@]}" --bootstrap >"$work/log" 2>&1
# Not through a function, whose subshell would be what is stopped in the end.
"$loader" --library-path "$libraries" "$work/root/usr/sbin/mariadbd" "${options[@]}" --skip-grant-tables >>"$work/log" 2>&1 &
server=$!
client=(run bin/mariadb --no-defaults "--socket=$work/socket" --skip-column-names --force)
for _ in $(seq 60); do
  if "${client[@]}" -e 'SELECT 1' >/dev/null 2>&1; then break; fi
  sleep 0.5
done

# A queue with one job. The other session puts a second one in while the first session's transaction is open.
"${client[@]}" -e "CREATE DATABASE finding; CREATE TABLE finding.jobs (id INT PRIMARY KEY, state VARCHAR(10)) ENGINE=InnoDB;
  INSERT INTO finding.jobs VALUES (1, 'ready')"
cat >"$work/other" <<OTHER
#!/usr/bin/env bash
exec "$loader" --library-path "$libraries" "$work/root/usr/bin/mariadb" --no-defaults "--socket=$work/socket" finding -e "\$1"
OTHER
chmod +x "$work/other"
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
# seen LEVEL LINE…: prints what was seen, and fails if it is not what is written here.
seen() {
  printf '%s\n' "$1" "$actual"
  if [ "$(printf '%s\n' "${@:2}")" != "$actual" ]; then
    echo "CHANGED" >&2
    exit 1
  fi
}
"${client[@]}" -e 'SELECT VERSION()'
tab=$'\t'
actual="$(look 'REPEATABLE READ' 2)"
seen 'REPEATABLE READ' "jobs before${tab}1" \
  "ERROR 1020 (HY000): Record has changed since last read in table 'jobs'; try restarting transaction" \
  "in a transaction${tab}0" "job 1 is${tab}mine"
actual="$(look 'READ COMMITTED' 3)"
seen 'READ COMMITTED' "jobs before${tab}2" "taken${tab}3" "in a transaction${tab}1" "job 1 is${tab}ready"
