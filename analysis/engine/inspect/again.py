"""Coming back to a tensor of a finished inspection, to look closer: where its bytes were, still unchanged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from analysis.engine.inspect import cache
from analysis.engine.inspect.header import Entry, clean
from analysis.engine.inspect.names import plain_name
from analysis.errors import ModelError
from analysis.store import arrays, layout


def entries(inspection: Path) -> dict[str, tuple[Entry, dict[str, Any]]]:
    """Finds the tensors of an inspection again, without opening the checkpoint a second time.

    Args:
        inspection: folder of a finished inspection.

    Returns:
        name of each tensor → where it is, and its row of tensors.parquet.

    Raises:
        ModelError: the inspection is not there any more, or its file has changed since.
    """
    try:
        source = layout.read_json(inspection / "inspection.json")["source"]
        table = arrays.load_table(inspection / "tensors.parquet")
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError("The inspection is not there any more; open the checkpoint again.") from None
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    path = Path(source["path"])
    files = [Path(os.fsdecode(f)) for f in dict.fromkeys(row["file"] for row in rows)]
    named = {cache.as_text(file.name): file for file in files}
    listed = [named[f["name"]] for f in source["files"] if f["name"] in named]
    if listed and cache.source(path, listed)["files"] != [f for f in source["files"] if f["name"] in named]:
        raise ModelError(f"{clean(path.name)!r} has changed since it was inspected; open it again.")
    return {row["name"]: (_entry(row), row) for row in rows}


def _entry(row: dict[str, Any]) -> Entry:
    shape = () if row["shape"] == "scalar" else tuple(int(n) for n in row["shape"].split(" × "))
    place = (Path(os.fsdecode(row["file"])), int(row["start"]), int(row["bytes"]))
    return Entry(row["name"], row["dtype"], shape, *place, ordered=bool(row["ordered"]))


def mask_of(found: dict[str, tuple[Entry, dict[str, Any]]], name: str) -> Entry | None:
    """The mask that was applied to a tensor; None without one."""
    if not found[name][1]["masked"]:
        return None
    weight = plain_name(name)
    return next((e for e, r in found.values() if r["role"] == "mask" and r["weight"] == weight), None)
