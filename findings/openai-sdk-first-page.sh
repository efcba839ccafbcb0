#!/usr/bin/env bash
# openai 3.52.0 (Python SDK): `vector_stores.files.content` and `vector_stores.search` answer a page object that can be iterated, and that
# ends with its first page, although the answer has `has_more: true` and a `next_page`, as OpenAI's OpenAPI document describes
# both. `has_next_page()` says False. Other lists of the same SDK, `vector_stores.files.list` say, go on by themselves. Guessed: all of its
# page objects do. Whoever reads a long document's text so has its beginning alone, without an error.
. "$(dirname "$0")/lib/openai-sdk.sh"
pages() { # CALL: how many parts a loop over its result sees, of three pages with one each; and what the page says of itself
  look <<PYTHON
class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = 0
    def log_message(self, *_): pass
    def do_GET(self):
        Pages.seen += 1
        is_last = Pages.seen == 3
        part = {"type": "text", "text": "a part"}
        if self.path.endswith("/content"):
            kind = "vector_store.file_content.page"
        elif "/search" in self.path:
            kind, part = "vector_store.search_results.page", {"file_id": "file-1", "filename": "a.txt", "score": 0.5, "attributes": {}, "content": [part]}
        else:
            kind, part = "list", {"id": f"file-{Pages.seen}", "object": "vector_store.file", "created_at": 1, "vector_store_id": "vs_1",
                "status": "completed", "usage_bytes": 1, "last_error": None}
        answer = {"object": kind, "data": [part], "has_more": not is_last}
        if kind == "list":
            answer |= {"first_id": part["id"], "last_id": part["id"]}
        else:
            answer |= {"next_page": None if is_last else f"page-{Pages.seen + 1}"}
        answer = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(api_key="sk-finding", base_url=f"http://127.0.0.1:{server.server_port}/v1", max_retries=0)
page = client.vector_stores.$1
said = f"has_more {page.has_more}, has_next_page() {page.has_next_page()}"
print(f"{len(list(page))} of 3; the first page: {said}")
PYTHON
}
seen "files.list" "3 of 3; the first page: has_more True, has_next_page() True" "$(pages 'files.list("vs_1")')"
seen "files.content" "1 of 3; the first page: has_more True, has_next_page() False" \
  "$(pages 'files.content("file-1", vector_store_id="vs_1")')"
seen "search" "1 of 3; the first page: has_more True, has_next_page() False" "$(pages 'search("vs_1", query="what")')"
