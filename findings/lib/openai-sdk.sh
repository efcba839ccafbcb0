# Sourced by the scripts beside this folder. Installs the official OpenAI SDK 3.52.0 for Python into a temporary folder and removes
# it at the end; `look` runs a program on standard input with it. In that program, `client` talks to a server on loopback that accepts
# every upload, and `received` has the bytes of each file that arrived there whole.
# Needs bash, Python 3.10 or newer with venv (PYTHON names another one), and a Python index.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
"${PYTHON:-python3}" -m venv "$work/sdk"
"$work/sdk/bin/pip" install --quiet --disable-pip-version-check openai==3.52.0 httpx2==2.16.2 httpcore2==2.16.2 h11==0.16.0
cat >"$work/setting.py" <<'PYTHON'
import email, http.server, json, threading
import openai
received = []
class Uploads(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        form = email.message_from_bytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body)
        if not form.is_multipart():
            return
        received.extend(part.get_payload(decode=True) for part in form.get_payload() if part.get_filename())
        answer = json.dumps({"id": "file-1", "object": "file", "bytes": len(received[-1]), "created_at": 1, "filename": "notes.txt",
            "purpose": "assistants", "status": "processed"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Uploads)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(api_key="sk-finding", base_url=f"http://127.0.0.1:{server.server_port}/v1", max_retries=0)
def upload(file):
    received.clear()
    try:
        client.files.create(file=("notes.txt", file), purpose="assistants")
        return received[-1].decode()
    except Exception as error:
        cause = error.__cause__ or error
        return f"{type(cause).__name__}: {cause}"
PYTHON
look() { (cat "$work/setting.py" - >"$work/look.py" && timeout 60 "$work/sdk/bin/python" "$work/look.py" 2>/dev/null); }
# seen WHAT EXPECTED ACTUAL: prints what was seen, and fails if it is not what is written here.
seen() {
  printf '%s: %s\n' "$1" "$3"
  if [ "$2" != "$3" ]; then
    echo "CHANGED: was '$2'" >&2
    exit 1
  fi
}
