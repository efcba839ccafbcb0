#!/usr/bin/env python3
"""Embeddings without a model: `embeddings.py PORT` answers /v1/embeddings and /v1/models on 127.0.0.1.

A text's vector counts its words and their beginnings of four letters, hashed into 384 dimensions: the same text has the
same vector, and texts that share words are near each other. That is all a vector store needs to be tested.

What the vectors do not depend on: EMBED_DELAY_MS waits before each answer, so that indexing takes a while. A text that
contains the words `slow embedding N` waits N milliseconds more.
"""

import base64
import hashlib
import json
import math
import os
import re
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DIMENSIONS = 384
DELAY_SECONDS = int(os.environ.get("EMBED_DELAY_MS", "0")) / 1000
SLOW = re.compile(r"slow embedding (\d+)")


def embedding(text):
    vector = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        for part in {word, *(word[at : at + 4] for at in range(max(1, len(word) - 3)))}:
            digest = int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "big")
            vector[digest % DIMENSIONS] += 1 if (digest >> 20) & 1 else -1
    length = math.sqrt(sum(x * x for x in vector)) or 1.0
    return [x / length for x in vector]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        model = {"id": "hash-embed", "object": "model", "created": 0, "owned_by": "local"}
        self.answer({"object": "list", "data": [model]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        slow = max((int(ms) for text in texts for ms in SLOW.findall(text)), default=0)
        time.sleep(DELAY_SECONDS + slow / 1000)
        vectors = [embedding(text) for text in texts]
        if asked.get("encoding_format") == "base64":
            vectors = [base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *v)).decode() for v in vectors]
        data = [{"object": "embedding", "index": n, "embedding": v} for n, v in enumerate(vectors)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        self.answer({"object": "list", "model": asked.get("model"), "data": data, "usage": usage})


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
