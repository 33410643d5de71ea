#!/usr/bin/env bash
# torch 2.15.0: the bytes of a file that torch.save writes depend on the NAME of the file.
#
# Guess, written down first: equal content gives equal bytes, wherever it is saved; at most torch's version matters.
# Seen: torch.save(x, "a.pt") and torch.save(x, "b.pt") differ, because the archive's root folder is named after the file
# ("a/data.pkl" against "b/data.pkl"). Saved through an open file the root is always "archive", and the bytes are equal.
# Who is hurt: whoever writes to a temporary name first and renames it (atomic writes), and then hashes the file: DVC,
# MLflow's and git-annex's deduplication see a new model after every retraining that changed nothing.
# Here: weakseg.training.checkpoints saves through an open file; a test compares the bytes.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
command -v uv >/dev/null || { python3 -m venv "$work/tools" && "$work/tools/bin/pip" install -q uv==0.13.8; export PATH="$work/tools/bin:$PATH"; }
uv venv -q --python 3.11 "$work/env"
uv pip install -q --python "$work/env/bin/python" torch==2.15.0 numpy==2.4.0
cd "$work" && env/bin/python - <<'P'
import zipfile
from pathlib import Path

import torch

content = {"w": torch.arange(3.0)}
for name in ("a.pt", "b.pt"):
    torch.save(content, name)
    with open(f"handle-{name}", "wb") as file:
        torch.save(content, file)
roots = [zipfile.ZipFile(name).namelist()[0].split("/")[0] for name in ("a.pt", "b.pt", "handle-a.pt", "handle-b.pt")]
by_path = Path("a.pt").read_bytes() == Path("b.pt").read_bytes()
by_handle = Path("handle-a.pt").read_bytes() == Path("handle-b.pt").read_bytes()
print("torch", torch.__version__, "| roots", roots, "| equal by path:", by_path, "| equal by open file:", by_handle)
assert roots == ["a", "b", "archive", "archive"] and not by_path and by_handle, "torch behaves otherwise now"
P
