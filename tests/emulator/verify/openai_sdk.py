"""Walks the whole surface of the emulator with the official OpenAI SDK; exits non-zero on any deviation.

    openai_sdk.py --origin http://127.0.0.1:8080 [--base-url http://127.0.0.1:4011]

`--origin` is the emulator (its control API is used to inject faults), `--base-url` what the SDK talks to: by default the
emulator itself, else a validating proxy in front of it. A proxy reports violations of the OpenAPI document in the header
`sl-violations`; any of severity "Error" fails the run. The emulator must index fast (`--indexing-ms-base 20`) and know the key `key`.
"""

import argparse
import hashlib
import json
import sys
import time
import urllib.request

import openai
from openai import OpenAI

POLL = 20
TEXT = ("The quick brown fox jumps over the lazy dog near the river bank. " * 100).encode()
TINY = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
OVERLAPPING = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 100}}


class Emulator:
    """The control API."""

    def __init__(self, origin):
        self.origin = origin

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.origin}/_emulator/{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def fault(self, when, then):
        self.call("POST", "faults", {"when": when, "then": then})

    def store(self, store_id):
        return next(store for store in self.call("GET", "state")["stores"] if store["id"] == store_id)


class Check:
    """One walk; every method is a check and named so."""

    def __init__(self, client, emulator, proxied):
        self.client, self.emulator, self.proxied = client, emulator, proxied

    def refused(self, call, kind=openai.BadRequestError):
        """A proxy may see the mistake first and answers 422."""
        allowed = (kind, openai.UnprocessableEntityError) if self.proxied else kind
        try:
            call()
        except allowed as error:
            assert self.proxied or error.request_id.startswith("req_"), error.request_id
            return error
        raise AssertionError("was not refused")

    def upload(self, name="fox.txt", data=TEXT):
        return self.client.files.create(file=(name, data), purpose="assistants")

    def check_models(self):
        assert [model.object for model in self.client.models.list()] == ["model"]
        self.refused(lambda: self.client.models.retrieve("gpt-nope"), openai.NotFoundError)

    def check_files(self):
        made = [self.upload(f"file-{n}.txt", b"text %d" % n) for n in range(7)]
        first = made[0]
        assert (first.bytes, first.filename, first.purpose, first.object) == (6, "file-0.txt", "assistants", "file")
        assert self.client.files.retrieve(first.id) == first
        ids = [file.id for file in made]
        for limit in (1, 3, 7, 10_000):
            listed = [file.id for file in self.client.files.list(purpose="assistants", order="asc", limit=limit)]
            assert listed[-7:] == ids, f"limit {limit}"
        page = self.client.files.list(limit=2, order="desc")
        assert page.has_more and [file.id for file in page.data] == ids[:-3:-1]
        assert not list(self.client.files.list(purpose="batch"))
        for limit in (0, 10_001):
            assert self.refused(lambda: self.client.files.list(limit=limit)).param == "limit"
        timed = self.client.files.create(
            file=("t.jsonl", b"{}"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
        )
        assert timed.expires_at == timed.created_at + 3600
        self.refused(lambda: self.client.files.create(file=("a.txt", b"x"), purpose="nonsense"))
        deleted = self.client.files.delete(first.id)
        assert deleted.deleted and deleted.id == first.id
        error = self.refused(lambda: self.client.files.retrieve(first.id), openai.NotFoundError)
        assert error.type == "invalid_request_error", error.body
        self.refused(lambda: self.client.files.delete(first.id), openai.NotFoundError)
        # Paging goes on although the object that the cursor names has gone.
        assert [file.id for file in self.client.files.list(after=first.id, order="asc", limit=3)][:2] == ids[1:3]

    def check_file_content(self):
        self.refused(lambda: self.client.files.content(self.upload().id))
        if self.proxied:
            return  # Named deviation: the document types the bytes of a file as a JSON string; no server does.
        batch = self.client.files.create(file=("b.jsonl", b"\x00\xffraw"), purpose="batch")
        assert self.client.files.content(batch.id).read() == b"\x00\xffraw"

    def check_uploads(self):
        # Prism passes multipart bodies on as UTF-8 text, so bytes that are none would not arrive.
        data = bytes(range(128 if self.proxied else 256)) * 2000
        parts = [data[:100_000], data[100_000:]]
        new = {"filename": "big.txt", "purpose": "assistants", "bytes": len(data), "mime_type": "text/plain"}
        upload = self.client.uploads.create(**new)
        assert (upload.status, upload.expires_at) == ("pending", upload.created_at + 3600)
        ids = [self.client.uploads.parts.create(upload.id, data=part).id for part in parts]
        self.refused(lambda: self.client.uploads.complete(upload.id, part_ids=ids[:1]))
        self.refused(lambda: self.client.uploads.complete(upload.id, part_ids=ids, md5="0" * 32))
        md5 = hashlib.md5(data).hexdigest()
        done = self.client.uploads.complete(upload.id, part_ids=ids, md5=md5)
        assert done.status == "completed" and done.file.bytes == len(data)
        kept = next(file for file in self.emulator.call("GET", "state")["files"] if file["id"] == done.file.id)
        assert kept["sha256"] == hashlib.sha256(data).hexdigest()
        self.refused(lambda: self.client.uploads.cancel(upload.id))
        other = self.client.uploads.create(**new)
        assert self.client.uploads.cancel(other.id).status == "cancelled"
        self.refused(lambda: self.client.uploads.parts.create(other.id, data=b"late"))
        chunked = self.client.uploads.upload_file_chunked(
            file=data, filename="c.txt", bytes=len(data), mime_type="text/plain", purpose="assistants", part_size=90_000
        )
        assert chunked.status == "completed"

    def check_vector_stores(self):
        stores = self.client.vector_stores
        made = [stores.create(name=f"store {n}", metadata={"n": str(n)}) for n in range(5)]
        ids = [store.id for store in made]
        assert all(id.startswith("vs_") for id in ids)
        assert [store.id for store in stores.list(order="asc", limit=2)][-5:] == ids
        assert [store.id for store in stores.list(limit=2).data] == ids[:-3:-1]
        before = stores.list(before=ids[3], order="asc", limit=2)
        assert [store.id for store in before.data] == ids[1:3] and before.has_more
        for limit in (0, 101):
            self.refused(lambda: stores.list(limit=limit))
        self.refused(lambda: stores.list(after="vs_nope"))
        changed = stores.update(
            ids[0], name="renamed", metadata={"a": "b"}, expires_after={"anchor": "last_active_at", "days": 3}
        )
        assert (changed.name, changed.metadata, changed.expires_after.days) == ("renamed", {"a": "b"}, 3)
        assert changed.expires_at == changed.last_active_at + 3 * 86_400
        assert stores.retrieve(ids[0]) == changed
        self.refused(lambda: stores.create(metadata={f"k{n}": "v" for n in range(17)}))
        self.refused(lambda: stores.create(metadata={"k": "v" * 513}))
        self.refused(lambda: stores.create(file_ids=["file-nope"]), openai.NotFoundError)
        self.refused(lambda: stores.create(extra_body={"colour": "red"}))
        deleted = stores.delete(ids[0])
        assert deleted.object == "vector_store.deleted"
        self.refused(lambda: stores.retrieve(ids[0]), openai.NotFoundError)

    def check_store_files(self):
        files = self.client.vector_stores.files
        file = self.upload()
        store = self.client.vector_stores.create(file_ids=[file.id], chunking_strategy=TINY, name="files")
        assert store.file_counts.in_progress == 1 and store.status == "in_progress"
        done = files.poll(file.id, vector_store_id=store.id, poll_interval_ms=POLL)
        assert done.status == "completed" and done.usage_bytes > len(TEXT)
        assert done.chunking_strategy.static.max_chunk_size_tokens == 100
        store = self.client.vector_stores.retrieve(store.id)
        assert store.file_counts.completed == store.file_counts.total == 1 and store.status == "completed"
        assert store.usage_bytes == done.usage_bytes

        second = files.upload_and_poll(
            vector_store_id=store.id, file=("late.md", b"# Late\n\nText."), chunking_strategy=OVERLAPPING,
            poll_interval_ms=POLL,
        )
        assert second.status == "completed"
        third = files.create_and_poll(
            self.upload("third.py", b"print('hi')").id, vector_store_id=store.id, attributes={"lang": "py", "n": 3},
            poll_interval_ms=POLL,
        )
        assert third.attributes == {"lang": "py", "n": 3}
        assert files.update(third.id, vector_store_id=store.id, attributes={"x": True}).attributes == {"x": True}
        self.refused(lambda: files.update(third.id, vector_store_id=store.id, attributes={f"k{n}": 1 for n in range(17)}))
        listed = [each.id for each in files.list(store.id, order="asc", limit=1)]
        assert listed == [file.id, second.id, third.id]
        assert [each.id for each in files.list(store.id, filter="completed", limit=100).data] == listed[::-1]
        assert not list(files.list(store.id, filter="failed"))
        text = files.content(file.id, vector_store_id=store.id).data
        assert "".join(piece.text for piece in text).encode() == TEXT.strip()
        assert files.delete(file.id, vector_store_id=store.id).object == "vector_store.file.deleted"
        self.refused(lambda: files.retrieve(file.id, vector_store_id=store.id), openai.NotFoundError)
        assert self.client.files.retrieve(file.id).id == file.id
        self.client.files.delete(second.id)
        assert self.client.vector_stores.retrieve(store.id).file_counts.total == 1
        self.refused(lambda: files.create(store.id, file_id="file-nope"), openai.NotFoundError)
        bad = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 101}}
        self.refused(lambda: files.create(store.id, file_id=file.id, chunking_strategy=bad))

    def check_failing_files(self):
        store = self.client.vector_stores.create(name="failing")
        expected = {"empty.txt": "invalid_file", "noise.txt": "invalid_file", "scan.pdf": "unsupported_file"}
        for name, data in [("empty.txt", b""), ("noise.txt", b"\xff\xfe\x00"), ("scan.pdf", b"%PDF-1.7")]:
            file = self.upload(name, data)
            failed = self.client.vector_stores.files.create_and_poll(
                file.id, vector_store_id=store.id, poll_interval_ms=POLL
            )
            assert (failed.status, failed.last_error.code) == ("failed", expected[name]), failed
        counts = self.client.vector_stores.retrieve(store.id).file_counts
        assert (counts.failed, counts.total) == (3, 3)

    def check_file_batches(self):
        batches = self.client.vector_stores.file_batches
        store = self.client.vector_stores.create(name="batches")
        ids = [self.upload(f"part-{n}.txt").id for n in range(3)]
        batch = batches.create_and_poll(
            store.id,
            files=[
                {"file_id": ids[0], "chunking_strategy": TINY, "attributes": {"part": 0}},
                {"file_id": ids[1], "chunking_strategy": OVERLAPPING},
                {"file_id": ids[2]},
            ],
            poll_interval_ms=POLL,
        )
        assert batch.id.startswith("vsfb_") and batch.status == "completed" and batch.file_counts.completed == 3
        assert batch.object == ("vector_store.files_batch" if self.proxied else "vector_store.file_batch")
        assert batches.retrieve(batch.id, vector_store_id=store.id) == batch
        # 1400 tokens by 100, by 200 with overlap 100, by 800 with overlap 400.
        chunks = {file["file_id"]: file["chunks"] for file in self.emulator.store(store.id)["files"]}
        assert chunks == dict(zip(ids, (14, 13, 3))), chunks
        in_batch = list(batches.list_files(batch.id, vector_store_id=store.id, order="asc", limit=2))
        assert [file.id for file in in_batch] == ids
        assert in_batch[0].attributes == {"part": 0}

        more = batches.upload_and_poll(store.id, files=[("x.txt", b"x"), ("y.txt", b"")], poll_interval_ms=POLL)
        assert (more.status, more.file_counts.completed, more.file_counts.failed) == ("completed", 1, 1)
        self.refused(lambda: batches.create(store.id, file_ids=ids, files=[{"file_id": ids[0]}]))
        self.refused(lambda: batches.create(store.id, file_ids=["file-nope", *ids]), openai.NotFoundError)
        self.refused(lambda: batches.create(store.id, file_ids=[f"file-{n}" for n in range(2001)]))
        self.refused(lambda: batches.retrieve("vsfb_nope", vector_store_id=store.id), openai.NotFoundError)

        self.emulator.fault({"filename": "endless"}, {"action": "stuck"})
        stuck = batches.create(store.id, file_ids=[self.upload("endless.txt").id])
        assert stuck.status == "in_progress" and stuck.file_counts.in_progress == 1
        cancelled = batches.cancel(stuck.id, vector_store_id=store.id)
        assert (cancelled.status, cancelled.file_counts.cancelled) == ("cancelled", 1)
        assert self.client.vector_stores.retrieve(store.id).file_counts.cancelled == 1

    def check_search(self):
        store = self.client.vector_stores.create(name="search")
        texts = {"cats.md": b"Cats purr and chase mice.", "dogs.md": b"Dogs bark at cats.", "tax.md": b"Taxes are due."}
        files = [
            {"file_id": self.upload(name, text).id, "attributes": {"name": name, "size": len(text)}}
            for name, text in texts.items()
        ]
        self.client.vector_stores.file_batches.create_and_poll(store.id, files=files, poll_interval_ms=POLL)
        search = lambda query, **more: list(self.client.vector_stores.search(store.id, query=query, **more))
        found = search("purr cats")
        assert [hit.filename for hit in found] == ["cats.md", "dogs.md"]
        assert found[0].score > found[1].score > 0 and found[0].content[0].text == texts["cats.md"].decode()
        assert found[0].attributes == {"name": "cats.md", "size": 25.0}
        assert len(search("cats", max_num_results=1)) == 1
        dogs = {"type": "eq", "key": "name", "value": "dogs.md"}
        assert [hit.filename for hit in search("cats", filters=dogs)] == ["dogs.md"]
        either = {"type": "or", "filters": [dogs, {"type": "gt", "key": "size", "value": 20}]}
        assert {hit.filename for hit in search("cats", filters=either)} == {"cats.md", "dogs.md"}
        assert not search("cats", ranking_options={"score_threshold": 0.99})
        assert [hit.filename for hit in search(["taxes", "bark"], rewrite_query=True)][:2] != []
        self.refused(lambda: search("cats", max_num_results=51))

    def check_errors_and_retries(self):
        wrong = self.client.with_options(api_key="another")
        self.refused(lambda: wrong.models.list(), openai.AuthenticationError)
        once = {"operation": "models.list", "times": 1}
        for seconds in ({"seconds": 1}, {"http_date": 2}, {"milliseconds": 50}, None):
            self.emulator.call("DELETE", "faults")
            self.emulator.fault(once, {"action": "rate_limit", "retry_after": seconds})
            started = time.monotonic()
            self.client.models.list()
            waited = time.monotonic() - started
            if seconds == {"seconds": 1}:
                assert waited >= 1, waited
        impatient = self.client.with_options(max_retries=0, timeout=2)
        cases = [
            ({"action": "rate_limit"}, openai.RateLimitError),
            ({"action": "quota"}, openai.RateLimitError),
            ({"action": "respond", "status": 503}, openai.InternalServerError),
            ({"action": "respond", "status": 409}, openai.ConflictError),
            ({"action": "respond", "status": 403}, openai.PermissionDeniedError),
        ]
        if not self.proxied:  # A proxy answers in its own way where there is no answer to pass on.
            cases += [
                ({"action": "html", "status": 502}, openai.InternalServerError),
                ({"action": "lose_request", "how": "reset"}, openai.APIConnectionError),
                ({"action": "lose_answer", "how": "hang"}, openai.APITimeoutError),
                ({"action": "reset_mid_body"}, openai.APIConnectionError),
                ({"action": "truncate_json"}, ValueError),
            ]
        for then, kind in cases:
            self.emulator.call("DELETE", "faults")
            self.emulator.fault(once, then)
            try:
                impatient.models.list()
            except kind as error:
                if then["action"] == "quota":
                    assert error.code == "insufficient_quota"
            else:
                raise AssertionError(f"{then} did not show")
        self.emulator.call("DELETE", "faults")
        # A connection that dies without having said so is the SDK's to survive.
        if not self.proxied:
            self.emulator.fault(once, {"action": "close_after_answer"})
            for _ in range(3):
                self.client.models.list()
                time.sleep(0.1)

    def run(self):
        for name in [name for name in dir(self) if name.startswith("check_")]:
            self.emulator.call("POST", "reset")
            started = time.monotonic()
            getattr(self, name)()
            print(f"ok   {name.removeprefix('check_'):22} {time.monotonic() - started:6.2f} s", flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--origin", required=True)
    arguments.add_argument("--base-url")
    given = arguments.parse_args()
    base_url = given.base_url or f"{given.origin}/v1"

    violations, requests = [], 0

    def inspect(response):
        nonlocal requests
        requests += 1
        for violation in json.loads(response.headers.get("sl-violations", "[]")):
            # A refusal is the caller's mistake, made on purpose here; and the document names no 4xx at all.
            if violation["severity"] == "Error" and response.status_code < 300:
                violations.append((response.request.method, str(response.request.url), violation))

    http = openai.DefaultHttpxClient(event_hooks={"response": [inspect]})
    client = OpenAI(api_key="key", base_url=base_url, http_client=http, max_retries=2, timeout=20)
    Check(client, Emulator(given.origin), proxied=given.base_url is not None).run()
    print(f"{requests} answers by {base_url}, {len(violations)} violations of the document")
    for violation in violations:
        print("violation", *violation)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
