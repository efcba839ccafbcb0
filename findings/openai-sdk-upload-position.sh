#!/usr/bin/env bash
# openai 3.52.0 (Python SDK): a file that is open at some place in it is uploaded from its first byte. Guessed: it is sent from where it
# stands, as whatever else reads it would get it. A part behind a header, or a member of a larger file, goes up with all that is
# before it, and nothing says so: whoever means a part has to read it.
. "$(dirname "$0")/lib/openai-sdk.sh"
seen "a file, of which the first four bytes were read" "one two three" "$(look <<'PYTHON'
import tempfile
file = tempfile.TemporaryFile()
file.write(b"one two three")
file.seek(4)
print(upload(file))
PYTHON
)"
seen "what it reads as" "two three" "$(look <<'PYTHON'
import tempfile
file = tempfile.TemporaryFile()
file.write(b"one two three")
file.seek(4)
print(file.read().decode())
PYTHON
)"
