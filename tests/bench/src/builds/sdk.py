"""Brings a folder's files into a new vector store with the official SDK; prints what it took, as JSON.

Arguments: base URL, folder, and how many uploads run at once (without it the SDK's default).
"""

import json
import pathlib
import resource
import sys
import time

import openai


def main() -> None:
    base_url, folder, *at_once = sys.argv[1:]
    files = sorted(pathlib.Path(folder).iterdir())
    limits = {"max_concurrency": int(at_once[0])} if at_once else {}
    client = openai.OpenAI(base_url=base_url, api_key="bench")
    began, cpu_before = time.monotonic(), cpu()
    store = client.vector_stores.create(name="bench")
    batch = client.vector_stores.file_batches.upload_and_poll(store.id, files=files, **limits)
    took = {
        "wall": time.monotonic() - began,
        "cpu": cpu() - cpu_before,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "completed": batch.file_counts.completed,
    }
    print(json.dumps(took))


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


main()
