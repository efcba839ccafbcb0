#!/usr/bin/env bash
# Holds the emulator against the official OpenAI SDK, and optionally SDK, emulator and our own client against OpenAI's
# OpenAPI document.
#   run.sh [--emulator BINARY] [--prism SCRIPT]
# BINARY is a built rag-emulator (default: built by cargo here). SCRIPT starts a validating proxy: `SCRIPT proxy UPSTREAM`
# serves on 127.0.0.1:$PRISM_PROXY_PORT (4011), `SCRIPT stop` ends it. The SDK is installed into a virtual environment
# under target/. Everything started here is stopped on exit.
#
# Whatever breaks the document fails the run, but for these known deviations:
#   null-description, null-expires-after, null-name   of a vector store: real servers answer null where the document has no
#   null-first-id      of an empty list               null. `--spec-strict` leaves them out or answers the empty value; what
#                                                     our client makes of the nulls is in the tests of `rag-providers`.
#   batch-object       the document says vector_store.files_batch, real servers vector_store.file_batch; `--spec-strict`
#                      says the former, and our client takes both.
#   content-as-string  the document types the bytes of a file as a JSON string; no server does. Downloads are not tried
#                      through the proxy, only their refusal is.
#   text-parts         the proxy passes multipart bodies on as text, so bytes that are no UTF-8 would not arrive.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../../.." && pwd)"
emulator="" prism=""
while [ $# -gt 0 ]; do
  case "$1" in
    --emulator) emulator="$2"; shift 2 ;;
    --prism) prism="$2"; shift 2 ;;
    *) sed -n '2,17p' "$0" >&2; exit 2 ;;
  esac
done
if [ -z "$emulator" ]; then
  cargo build --quiet --manifest-path "$root/Cargo.toml" -p rag-emulator
  emulator="${CARGO_TARGET_DIR:-$root/target}/debug/rag-emulator"
fi

venv="${CARGO_TARGET_DIR:-$root/target}/openai-sdk"
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed.txt"
fi

work="$(mktemp -d)"
pids=()
finish() {
  if [ -n "$prism" ]; then "$prism" stop >/dev/null 2>&1 || true; fi
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

origin=""
start_emulator() { # options...
  local log="$work/emulator.${#pids[@]}.log"
  "$emulator" --listen 127.0.0.1:0 --indexing-ms-base 20 --indexing-ms-per-kb 0 --api-key key "$@" >"$log" &
  pids+=("$!")
  for _ in $(seq 100); do
    origin="$(sed -n 's|^rag-emulator listening on \(.*\)/v1$|\1|p' "$log")"
    if [ -n "$origin" ]; then return; fi
    sleep 0.05
  done
  echo "the emulator did not start" >&2
  exit 1
}

# Our client's own tests against a server that is there already; none at all is a failure as well.
live() { # provider base_url
  local tests='package(rag-providers) & test(live)'
  (
    cd "$root"
    export RAG_LIVE_PROVIDER="$1" RAG_LIVE_BASE_URL="$2" RAG_LIVE_API_KEY=key
    if cargo nextest --version >/dev/null 2>&1; then
      cargo nextest run --locked --workspace --run-ignored only --no-tests fail --retries 0 -E "$tests"
    else
      cargo test --locked --workspace --lib --test it -- --ignored --test-threads 1 live | tee "$work/live.log"
      grep -q '^test live::every_call_is_understood .* ok$' "$work/live.log"
    fi
  )
}

echo "== SDK, directly"
start_emulator
"$venv/bin/python" "$here/openai_sdk.py" --origin "$origin"

if [ -n "$prism" ]; then
  # The document types some fields without null that real servers do send as null (description, expires_after, name,
  # first_id), and calls batches files_batch; --spec-strict follows it there.
  echo "== SDK, through the validating proxy"
  start_emulator --spec-strict
  PRISM_ERRORS=1 "$prism" proxy "$origin/v1"
  proxy="http://127.0.0.1:${PRISM_PROXY_PORT:-4011}"
  "$venv/bin/python" "$here/openai_sdk.py" --origin "$origin" --base-url "$proxy"

  echo "== the proxy refuses what breaks the document"
  status() { # options of curl...
    curl --silent --output /dev/null --write-out '%{http_code}' -H 'Authorization: Bearer key' "$@"
  }
  fault() { # rule
    curl --silent --show-error --fail --output /dev/null -H 'Content-Type: application/json' -d "$1" "$origin/_emulator/faults"
  }
  want() { # expected seen what
    if [ "$1" != "$2" ]; then echo "$3: $2 instead of $1" >&2; exit 1; fi
  }
  curl --silent --show-error --fail --output /dev/null -X POST "$origin/_emulator/reset"
  want 200 "$(status "$proxy/vector_stores?limit=1")" "a good request"
  want 422 "$(status -H 'Content-Type: application/json' -d '{"name": 5}' "$proxy/vector_stores")" "a bad request"
  fault '{"when": {"operation": "vector_stores.list", "times": 1}, "then": {"action": "merge_json", "fields": {"has_more": "no"}}}'
  want 500 "$(status "$proxy/vector_stores?limit=1")" "a bad answer"

  # One after the other, with the options of the tests' build: nothing is built again.
  for provider in openai sentralix; do
    echo "== our client ($provider), through the validating proxy"
    curl --silent --show-error --fail --output /dev/null -X POST "$origin/_emulator/reset"
    # What is to be cancelled must not be done before.
    fault '{"when": {"filename": "late.txt"}, "then": {"action": "delay_indexing", "ms": 60000}}'
    live "$provider" "$proxy"
  done
fi
echo "== passed"
