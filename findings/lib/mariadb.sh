# Sourced by the scripts beside this folder. Unpacks MariaDB 11.8.9 of Debian 13 with the libraries that it was built with into a
# temporary folder, starts it on a socket there, and stops and removes everything at the end. Needs a Debian machine (its apt
# sources and keys), not root. `client` runs a client; `$work/other SQL` is another session, in the database `finding`.
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
"${client[@]}" -e 'CREATE DATABASE finding'
cat >"$work/other" <<OTHER
#!/usr/bin/env bash
exec "$loader" --library-path "$libraries" "$work/root/usr/bin/mariadb" --no-defaults "--socket=$work/socket" --skip-column-names finding -e "\$1"
OTHER
chmod +x "$work/other"
# seen WHAT LINE…: prints what was seen, and fails if it is not what is written here.
seen() {
  printf '%s\n' "$1" "$actual"
  if [ "$(printf '%s\n' "${@:2}")" != "$actual" ]; then
    echo "CHANGED" >&2
    exit 1
  fi
}
