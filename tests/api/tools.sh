#!/usr/bin/env bash
# Installs the tools that hold the API against its document into a virtual environment: .local/api-tools. What uses them
# are the tests of tests/it/api/document.rs, which are ignored unless asked for:
#   tests/api/tools.sh && cargo xtask test --test it -- --ignored document
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="$here/../../.local/api-tools"
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed.txt"
fi
