"""Reads a checkpoint of unknown origin in a throw-away process and writes down what is in it.

``python -m analysis.engine.inspect PATH OUT`` writes three files under OUT. Memory is one chunk of a million
elements whatever the size of the checkpoint; torch is never imported and nothing is unpickled.

inspection.json (written last, so that its presence means the other two are whole):
    schema_version, error (a sentence or null), problems (sentences), source {name, files [{name, bytes,
    mtime_ns}], bytes}, metadata, tensors (their number)
tensors.parquet:
    one row a tensor, columns ``COLUMNS``; shape as text "3072 × 768"; q01 … q99 are quantiles of |w|
histograms.npz:
    limits float64 [tensors], counts int64 [tensors, bins + 2]; see ``inspect_values.Tally.histogram``.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.engine.blocks import inside
from analysis.engine.inspect.header import Entry, clean, open_regular
from analysis.engine.inspect.names import layer_of, role_of, site_block
from analysis.engine.inspect.opening import open_checkpoint
from analysis.engine.inspect.values import ANALYSED, BINS, QUANTILES, analyse
from analysis.errors import LabError, ModelError
from analysis.store import arrays, layout

log = logging.getLogger(__name__)

RESULT, HISTOGRAMS = "inspection.json", "histograms.npz"
TENSORS = "tensors.parquet"
SCHEMA_VERSION = 2  # 2: prunable and encoder follow the numbered blocks
NO_PARAMETER = ("statistic", "quantised")  # roles that count under no denominator of weights
_FACTS = ("name", "dtype", "shape", "numel", "bytes", "role", "layer", "prunable", "encoder", "analysed")
_NUMBERS = ("zeros", "non_finite", "min", "max", "mean", "std", "rows_empty", "cols_empty")
_LEVELS = tuple(f"q{round(100 * q):02d}" for q in QUANTILES)
COLUMNS = _FACTS + _NUMBERS + _LEVELS


def inspect(path: Path, out: Path) -> dict[str, Any]:
    """Inspects a checkpoint and writes what it found.

    Args:
        path: a safetensors file, a Hugging Face folder (single file or shards), or a run folder.
        out: folder for the result, created when missing.

    Returns:
        the content of ``inspection.json``.

    Raises:
        ModelError: the checkpoint cannot be read; the sentence is also written as ``error``.
    """
    out.mkdir(parents=True, exist_ok=True)
    empty: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "tensors": 0, "problems": [], "metadata": {}}
    empty["source"] = {"name": clean(path.name), "files": [], "bytes": 0}
    try:
        result, rows, limits, counts = _read(path, out)
    except (ModelError, OSError) as error:
        sentence = str(error) if isinstance(error, ModelError) else _disk_sentence(path, error)
        layout.write_json(out / RESULT, empty | {"error": sentence})
        raise ModelError(sentence) from None
    arrays.save_table(out / TENSORS, {name: [row.get(name) for row in rows] for name in COLUMNS})
    arrays.save_arrays(out / HISTOGRAMS, {"limits": limits, "counts": counts})
    result = empty | result | {"tensors": len(rows), "error": None}
    layout.write_json(out / RESULT, result)
    return result


def inspect_apart(path: Path, out: Path, timeout: float = 900.0) -> None:
    """Runs ``inspect`` in a process of its own: a hostile or vanishing file can only end that process.

    Args:
        path: what to inspect.
        out: folder for the result.
        timeout: seconds after which the process is ended.

    Raises:
        ModelError: the checkpoint cannot be read, the process died, or it took too long.
    """
    command = [sys.executable, "-m", "analysis.engine.inspect.worker", str(path), str(out)]
    shown = clean(path.name)
    try:
        done = subprocess.run(command, cwd=layout.ROOT, timeout=timeout, capture_output=True, check=False)
    except subprocess.TimeoutExpired:
        raise ModelError(f"Inspecting {shown!r} took more than {timeout:g} s and was ended.") from None
    if done.returncode == 2:
        raise ModelError(done.stderr.decode("utf-8", "replace").strip())
    if done.returncode:
        log.warning("inspecting %s: %s", shown, done.stderr.decode("utf-8", "replace"))
        raise ModelError(
            f"The process inspecting {shown!r} ended with code {done.returncode}; the file may be damaged or "
            "have changed while it was read: inspect it again."
        )


def _read(path: Path, out: Path) -> tuple[dict[str, Any], list[dict[str, Any]], np.ndarray, np.ndarray]:
    opened = open_checkpoint(path, out)
    files, entries, metadata, problems = opened.files, opened.entries, opened.metadata, list(opened.problems)
    before = {file: _stamp(file) for file in files}
    rows, limits, counts = [], np.ones(len(entries)), np.zeros((len(entries), BINS + 2), dtype=np.int64)
    for i, (entry, labels) in enumerate(zip(entries, _labels(entries), strict=True)):
        row, limits[i], counts[i] = _tensor(entry, labels)
        rows.append(row)
    if before != {file: _stamp(file) for file in files}:
        raise ModelError(f"{clean(path.name)!r} changed while it was read; inspect it again.")
    listed = [{"name": clean(f.name), "bytes": s[0], "mtime_ns": s[1]} for f, s in before.items()]
    source = {"name": clean(path.name), "files": listed, "bytes": sum(s[0] for s in before.values())}
    return {"source": source, "metadata": metadata, "problems": problems}, rows, limits, counts


def _labels(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What names say: role, layer, and where a tensor counts.

    Prunable is a site; the encoder is everything in the blocks that hold one, as ``sites.count_parameters``
    counts it.
    """
    roles = [role_of(e.name, e.shape) for e in entries]
    homes = [site_block(e.name, role) for e, role in zip(entries, roles, strict=True)]
    blocks = {home for home in homes if home}
    return [
        {
            "name": shown,
            "role": role,
            "layer": layer_of(entry.name),
            "prunable": home is not None,
            "encoder": role not in NO_PARAMETER and inside(entry.name, blocks),
        }
        for entry, shown, role, home in zip(entries, _names(entries), roles, homes, strict=True)
    ]


def _tensor(entry: Entry, labels: dict[str, Any]) -> tuple[dict[str, Any], float, np.ndarray]:
    shape = " × ".join(str(n) for n in entry.shape) or "scalar"
    row = labels | {"dtype": entry.dtype, "shape": shape, "numel": entry.numel, "bytes": entry.size}
    if entry.dtype not in ANALYSED or labels["role"] == "quantised":
        return row | {"analysed": False}, 1.0, np.zeros(BINS + 2, dtype=np.int64)
    with open_regular(entry.file) as file:
        found, limit, counts = analyse(file, entry)
    levels = found.pop("quantiles") or [None] * len(_LEVELS)
    return row | {"analysed": True} | found | dict(zip(_LEVELS, levels, strict=True)), limit, counts


def _names(entries: Sequence[Entry]) -> list[str]:
    """Makes names fit to be shown, and different where capping or cleaning made them equal."""
    seen: dict[str, int] = {}
    out = []
    for entry in entries:
        name = clean(entry.name)
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out


def _stamp(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino


def _disk_sentence(path: Path, error: OSError) -> str:
    reason = (error.strerror or "unknown reason").lower()
    return f"{clean(path.name)!r} cannot be read ({reason}); check the disk and the path."


def main(arguments: list[str]) -> int:
    """Runs from the command line with PATH and OUT; one sentence on stderr and code 2 on failure."""
    if len(arguments) != 2:
        sys.stderr.write("Usage: python -m analysis.engine.inspect PATH OUT\n")
        return 2
    try:
        inspect(Path(arguments[0]), Path(arguments[1]))
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
