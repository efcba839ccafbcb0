#!/usr/bin/env bash
# openai 3.52.0 (Python SDK): a pipe, such as `sys.stdin.buffer` or a subprocess's stdout, cannot be uploaded. It is an open binary file as
# the SDK asks for, and the request fails with "Too much data for declared Content-Length", because the length was taken from the pipe's
# file descriptor, which says 0. Guessed: what can only be read once is read, or sent in chunks.
. "$(dirname "$0")/lib/openai-sdk.sh"
seen "a file" "one two three" "$(look <<'PYTHON'
import tempfile
file = tempfile.TemporaryFile()
file.write(b"one two three")
file.seek(0)
print(upload(file))
PYTHON
)"
seen "bytes in memory" "one two three" "$(look <<'PYTHON'
import io
print(upload(io.BytesIO(b"one two three")))
PYTHON
)"
seen "the same from a program" "LocalProtocolError: Too much data for declared Content-Length" "$(look <<'PYTHON'
import subprocess
program = subprocess.Popen(["printf", "one two three"], stdout=subprocess.PIPE)
print(upload(program.stdout))
PYTHON
)"
