#!/usr/bin/env python3
"""`tiktoken_file.py FOLDER`: puts the file that tiktoken would download at its first use into FOLDER.

It comes out of a wheel of the ordinary Python index that carries it (llama-index-core, MIT); nothing else is fetched.
Run it with the Python of the virtual environment that has pip.
"""

import glob
import os
import subprocess
import sys
import tempfile
import zipfile

WHEEL = "llama-index-core==0.14.25"
NAME = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # the name tiktoken gives to cl100k_base
INSIDE = f"llama_index/core/_static/tiktoken_cache/{NAME}"

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
target = os.path.join(folder, NAME)
if not os.path.exists(target):
    with tempfile.TemporaryDirectory() as work:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--dest", work, WHEEL], check=True)
        (wheel,) = glob.glob(f"{work}/*.whl")
        content = zipfile.ZipFile(wheel).read(INSIDE)
    with open(target + ".part", "wb") as file:
        file.write(content)
    os.rename(target + ".part", target)
