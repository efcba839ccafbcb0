#!/usr/bin/env bash
# Holds the running API against its own OpenAPI document: generated requests, good and bad, single and in sequences.
#   schemathesis.sh [options of `schemathesis run`]
# DATABASE_URL names a MariaDB server on which a database may be made (mysql://user:password@host:port/any). Database, API,
# worker and emulator are made here and removed on exit. schemathesis is installed into a virtual environment under target/.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
target="${CARGO_TARGET_DIR:-$root/target}"
: "${DATABASE_URL:?names the MariaDB server for tests}"

cargo build --quiet --manifest-path "$root/Cargo.toml" -p rag-api -p rag-worker -p rag-emulator --bins
venv="$target/schemathesis"
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed.txt"
fi

work="$(mktemp -d)"
database="rag_schemathesis_$$"
pids=()
sql() { # statement
  "$venv/bin/python" - "$1" <<'PYTHON'
import os, sys
from urllib.parse import unquote, urlsplit
import pymysql

at = urlsplit(os.environ["DATABASE_URL"])
with pymysql.connect(host=at.hostname, port=at.port or 3306, user=unquote(at.username or ""),
                     password=unquote(at.password or ""), autocommit=True) as connection:
    connection.cursor().execute(sys.argv[1])
PYTHON
}
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  sql "DROP DATABASE IF EXISTS $database" || true
  rm -rf "$work"
}
trap finish EXIT
free_port() {
  "$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

sql "CREATE DATABASE $database"
"$target/debug/rag-emulator" --listen 127.0.0.1:0 --indexing-ms-base 20 --indexing-ms-per-kb 0 --api-key sk-c4n4ry-key >"$work/emulator.log" &
pids+=("$!")
origin=""
for _ in $(seq 100); do
  origin="$(sed -n 's|^rag-emulator listening on \(.*\)$|\1|p' "$work/emulator.log")"
  if [ -n "$origin" ]; then break; fi
  sleep 0.05
done

api="http://127.0.0.1:$(free_port)"
export DATABASE_URI="${DATABASE_URL%/*}/$database" FILES_ROOT="$work/files" API_LISTEN="${api#http://}" \
  WORKER_LISTEN="127.0.0.1:$(free_port)" PROVIDER_SECRETS_KEY="a c4n4ry key that only this test uses" \
  PROVIDER_ALLOW_LOOPBACK_HTTP=true RUST_LOG=info,rag_providers=debug
"$target/debug/rag-api" migrate
key="$("$target/debug/rag-api" keys create --name schemathesis --role admin)"
"$target/debug/rag-api" >"$work/api.log" 2>&1 &
pids+=("$!")
"$target/debug/rag-worker" >"$work/worker.log" 2>&1 &
pids+=("$!")
until curl --silent --fail --output /dev/null "$api/health/ready"; do sleep 0.1; done
curl --silent --show-error --fail --output /dev/null "$api/api/v1/admin/providers/connections/openai" \
  -H "Authorization: Bearer $key" -H 'Content-Type: application/json' \
  -d "{\"base_url\": \"$origin\", \"auth_type\": \"api_key\", \"credentials\": {\"api_key\": \"sk-c4n4ry-key\"}}"

# Streams of events do not end, and are tested elsewhere. Data that a schema cannot rule out (an unknown provider, a name
# of blanks, an id that names nothing) is refused, and a header that is not understood is ignored, as RFC 9110 has it.
status=0
"$venv/bin/schemathesis" run "$api/api/v1/openapi.json" --header "Authorization: Bearer $key" \
  --checks all --exclude-checks positive_data_acceptance,negative_data_rejection \
  --exclude-path '/api/v1/jobs/{job_id}/events' --continue-on-failure --request-timeout 40 "$@" || status=$?
if grep -l c4n4ry "$work/api.log" "$work/worker.log"; then echo "a secret is in these logs" >&2; status=1; fi
if [ "$status" -ne 0 ] && grep -E 'ERROR|panicked' "$work/api.log"; then :; fi
exit "$status"
