#!/usr/bin/env bash
# Holds the emulator against the official OpenAI SDK, and optionally against OpenAI's OpenAPI document.
#   run.sh [--emulator BINARY] [--prism SCRIPT]
# BINARY is a built rag-emulator (default: built by cargo here). SCRIPT starts a validating proxy: `SCRIPT proxy UPSTREAM`
# serves on 127.0.0.1:$PRISM_PROXY_PORT (4011), `SCRIPT stop` ends it. The SDK is installed into a virtual environment
# under target/. Everything started here is stopped on exit.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../../.." && pwd)"
emulator="" prism=""
while [ $# -gt 0 ]; do
  case "$1" in
    --emulator) emulator="$2"; shift 2 ;;
    --prism) prism="$2"; shift 2 ;;
    *) sed -n '2,6p' "$0" >&2; exit 2 ;;
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

echo "== SDK, directly"
start_emulator
"$venv/bin/python" "$here/openai_sdk.py" --origin "$origin"

if [ -n "$prism" ]; then
  # The document types some fields without null that real servers do send as null (description, expires_after, name,
  # first_id), and calls batches files_batch; --spec-strict follows it there.
  echo "== SDK, through the validating proxy"
  start_emulator --spec-strict
  PRISM_ERRORS=1 "$prism" proxy "$origin/v1"
  "$venv/bin/python" "$here/openai_sdk.py" --origin "$origin" --base-url "http://127.0.0.1:${PRISM_PROXY_PORT:-4011}"
fi
echo "== passed"
