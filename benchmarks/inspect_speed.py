"""How fast a checkpoint is inspected, beside merely touching every byte of the same file in the same run.

``python benchmarks/inspect_speed.py [--gigabytes 2] [--large 8] [--json]`` makes its files in a temporary
folder and deletes them. Printed are the values pass of bfloat16 and single precision, dense and 90 % sparse;
the comparison of two files; the anonymous memory above what the imports take, at two sizes; the whole command
on a checkpoint of the size of BERT-base; and opening 400 tensors in 20 shards. Times are the best of three,
warm.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from analysis.engine.inspect.opening import open_checkpoint
from analysis.engine.inspect.pair import compare
from analysis.engine.inspect.worker import inspect

ROWS, COLS = 4096, 4096
CHUNK = 1 << 24


def write(path: Path, dtype: str, gigabytes: float, sparsity: float = 0.0) -> Path:
    """Writes matrices of normal weights that differ in one value, which no counting can profit from."""
    rng = np.random.default_rng(0)
    w = rng.normal(0, 0.02, (ROWS, COLS)).astype("<f4") * (rng.random((ROWS, COLS)) >= sparsity)
    w = w.astype("<f4")
    raw = bytearray(((w.view(np.uint32) >> 16).astype("<u2") if dtype == "BF16" else w).tobytes())
    count = max(1, round(gigabytes * 1e9 / len(raw)))
    header = {
        f"model.layers.{i}.mlp.up_proj.weight": {
            "dtype": dtype,
            "shape": [ROWS, COLS],
            "data_offsets": [i * len(raw), (i + 1) * len(raw)],
        }
        for i in range(count)
    }
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for i in range(count):
            raw[:2] = (i + 1).to_bytes(2, "little")  # no two are equal: equal ones are looked at twice
            file.write(raw)
    return path


def touch(path: Path) -> None:
    """Reads every byte and adds it up, in one process: the least a reader can do."""
    total = 0
    buffer = bytearray(CHUNK)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            total += int(np.frombuffer(buffer, np.uint8, count)[: count // 8 * 8].view(np.uint64).sum())


def best(work: Callable[[], Any], times: int = 3) -> float:
    """The shortest of several times, in seconds."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return min(found)


def speed(folder: Path, dtype: str, gigabytes: float, sparsity: float) -> dict[str, Any]:
    """The whole inspection of a file, every time into a new folder, beside touching it."""
    path = write(folder / "model.safetensors", dtype, gigabytes, sparsity)
    size = path.stat().st_size
    touched = best(lambda: touch(path))

    def fresh() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            inspect(path, Path(out))

    read = best(fresh)
    path.unlink()
    return {
        "what": f"{dtype}, {100 * sparsity:.0f} % zeros, {size / 1e9:.1f} GB",
        "GB_per_s": size / read / 1e9,
        "touch_GB_per_s": size / touched / 1e9,
        "ratio_to_touch": read / touched,
    }


MEASURED = (
    "import sys, time; from pathlib import Path\n"
    "import pandas, pyarrow.parquet  # writing a table imports both\n"
    "from analysis.engine.inspect.worker import inspect\n"
    "print('ready', flush=True); sys.stdin.readline()\n"
    "inspect(Path(sys.argv[1]), Path(sys.argv[2]))\n"
)


def anonymous(pid: int) -> int:
    """Anonymous memory of a process and its children, bytes; pages that forked children share count once."""
    total = 0
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    children = [int(n) for n in listed.read_text().split()] if listed.exists() else []
    for process in (pid, *children):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss_Anon"))
    return total


def memory(folder: Path, gigabytes: float) -> dict[str, Any]:
    """The peak of anonymous memory while a file is inspected, above what it is after the imports."""
    path = write(folder / "model.safetensors", "BF16", gigabytes)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        process = subprocess.Popen(
            [sys.executable, "-c", MEASURED, str(path), out], cwd=ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        assert process.stdin and process.stdout
        process.stdout.readline()
        before = peak = anonymous(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        done = threading.Event()
        threading.Thread(target=lambda: (process.wait(), done.set()), daemon=True).start()
        while not done.wait(0.02):
            peak = max(peak, anonymous(process.pid))
    size = path.stat().st_size
    path.unlink()
    return {
        "what": f"BF16, {size / 1e9:.1f} GB",
        "import_MB": before / 1e6,
        "above_MB": (peak - before) / 1e6,
    }


def pair(folder: Path, dtype: str, gigabytes: float) -> dict[str, Any]:
    """Two checkpoints walked in lock-step, beside touching every byte of both."""
    paths = [write(folder / f"{name}.safetensors", dtype, gigabytes / 2) for name in "ab"]
    size = sum(path.stat().st_size for path in paths)
    touched = best(lambda: [touch(path) for path in paths])

    def fresh() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            compare(*paths, Path(out))

    read = best(fresh)
    for path in paths:
        path.unlink()
    return {
        "what": f"compare two, {dtype}, {size / 1e9:.1f} GB together",
        "GB_per_s": size / read / 1e9,
        "touch_GB_per_s": size / touched / 1e9,
        "ratio_to_touch": read / touched,
    }


def shards(folder: Path) -> dict[str, Any]:
    """Opening 400 tensors in 20 shards: headers checked, the table known, nothing read."""
    index: dict[str, str] = {}
    for shard in range(20):
        name = f"model-{shard:05d}-of-00020.safetensors"
        header = {}
        for i in range(20):
            tensor = f"model.layers.{shard * 20 + i}.mlp.up_proj.weight"
            header[tensor] = {"dtype": "BF16", "shape": [64, 64], "data_offsets": [8192 * i, 8192 * (i + 1)]}
            index[tensor] = name
        text = json.dumps(header).encode()
        (folder / name).write_bytes(len(text).to_bytes(8, "little") + text + bytes(8192 * 20))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return {
        "what": "open 400 tensors in 20 shards",
        "ms": 1000 * best(lambda: open_checkpoint(folder, folder), 5),
    }


def command(folder: Path) -> dict[str, Any]:
    """The whole command on 110 million weights in single precision, imports and all; then from the cache."""
    path = write(folder / "model.safetensors", "F32", 0.44)
    words = [
        sys.executable,
        "-m",
        "analysis",
        "inspect",
        str(path),
        "--json",
        "--runs-dir",
        str(folder / "runs"),
    ]

    def run() -> None:
        subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)

    first, again = best(run, 1), best(run)
    path.unlink()
    return {"what": "command, BERT-base size", "first_s": first, "from_cache_s": again}


def main() -> None:
    """Measures everything and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--large", type=float, default=8.0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = [(dtype, sparsity) for dtype in ("BF16", "F32") for sparsity in (0.0, 0.9)]
        rows += [speed(folder, dtype, chosen.gigabytes, sparsity) for dtype, sparsity in kinds]
        rows += [pair(folder, dtype, chosen.gigabytes) for dtype in ("BF16", "F32")]
        rows += [memory(folder, chosen.gigabytes), memory(folder, chosen.large), command(folder)]
        (folder / "shards").mkdir()
        rows.append(shards(folder / "shards"))
    if chosen.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(", ".join(f"{k} {v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items()))


if __name__ == "__main__":
    main()
