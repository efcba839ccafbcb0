# Sourced by the scripts beside this folder. Installs OGX 1.5.0 with the packages pinned in tests/real-servers (and LiteLLM, where
# a script asks for it) into a temporary folder, starts them on loopback, and stops and removes everything at the end.
# Needs bash, curl, Python 3.12 or newer (PYTHON names another one), and a Python index.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
sources="$here/tests/real-servers"
work="$(mktemp -d)"
mkdir "$work/state"
programs=()
key=sk-finding
cleanup() {
  for program in "${programs[@]}"; do kill "$program" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

find_python() {
  local name
  for name in ${PYTHON:-} python3.12 python3.13 python3.14 python3 "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python3; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "needs Python 3.12 or newer" >&2
  return 1
}

# environment NAME: a virtual environment with the packages of NAME.requirements.txt
environment() {
  "$python" -m venv --without-pip "$work/$1"
  "$work/tools/bin/uv" pip install --quiet --no-config --python "$work/$1/bin/python" \
    --requirement "$sources/$1.requirements.txt"
}

free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

install_ogx() {
  python="$(find_python)"
  "$python" -m venv "$work/tools"
  "$work/tools/bin/python" -m pip install --quiet --disable-pip-version-check uv==0.13.9
  environment ogx
  "$work/tools/bin/python" "$sources/tiktoken_file.py" "$work/tiktoken"
  local embeddings
  embeddings="$(free_port)"
  "$python" "$sources/embeddings.py" "$embeddings" >"$work/embeddings.log" 2>&1 &
  programs+=($!)
  ogx_port="$(free_port)"
  url="http://127.0.0.1:$ogx_port/v1"
  sed "s#@EMBEDDINGS@#127.0.0.1:$embeddings#;s#@PORT@#$ogx_port#;s#@STATE@#$work/state#g;s#@KEY@#$key#" \
    "$sources/ogx.yaml" >"$work/ogx.yaml"
}

# Starts OGX, or starts it again with the state it had; waits until it lists its stores.
start_ogx() {
  (cd "$work/state" && OGX_LOGGING=all=error OGX_LOG_FORMAT=json TIKTOKEN_CACHE_DIR="$work/tiktoken" \
    exec "$work/ogx/bin/ogx" run "$work/ogx.yaml") >>"$work/ogx.log" 2>&1 &
  ogx=$!
  programs+=("$ogx")
  wait_for "$url/vector_stores" "$work/ogx.log"
}

wait_for() { # URL LOG
  local left
  for left in $(seq 240 -1 0); do
    if curl --silent --fail --max-time 5 --header "Authorization: Bearer $key" --output /dev/null "$1"; then
      return
    fi
    sleep 0.5
  done
  echo "no answer from $1" >&2
  tail -n 20 "$2" >&2
  return 1
}

call() { # METHOD PATH [JSON]: prints the body
  local body=()
  if [ $# -gt 2 ]; then body=(--header 'content-type: application/json' --data "$3"); fi
  curl --silent --show-error --max-time 60 --request "$1" --header "Authorization: Bearer $key" "${body[@]}" "$url$2"
}

status_of() { # METHOD PATH [JSON]: prints the status alone
  local body=()
  if [ $# -gt 2 ]; then body=(--header 'content-type: application/json' --data "$3"); fi
  curl --silent --show-error --max-time 60 --output /dev/null --write-out '%{http_code}' --request "$1" \
    --header "Authorization: Bearer $key" "${body[@]}" "$url$2"
}

# field EXPRESSION: evaluates it over the JSON `d` on standard input
field() { "$python" -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

upload() { # NAME CONTENT: prints the id
  printf '%s' "$2" >"$work/upload"
  curl --silent --show-error --max-time 60 --header "Authorization: Bearer $key" --form purpose=assistants \
    --form "file=@$work/upload;filename=$1" "$url/files" | field 'd["id"]'
}

make_store() { call POST /vector_stores '{"name":"finding"}' | field 'd["id"]'; }

attached() { # STORE FILE: waits until it is indexed
  local left
  for left in $(seq 60); do
    case "$(call GET "/vector_stores/$1/files/$2" | field 'd.get("status")')" in completed | failed) return ;; esac
    sleep 0.5
  done
}

# seen WHAT EXPECTED ACTUAL: prints what was seen, and fails if it is not what the page beside says.
seen() {
  printf '%s: %s\n' "$1" "$3"
  if [ "$2" != "$3" ]; then
    printf 'CHANGED: %s was %s\n' "$1" "$2" >&2
    exit 1
  fi
}
