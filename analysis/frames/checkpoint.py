"""What is in a checkpoint: the tensors of an inspection, and its sparsity under every denominator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.tables import UNREADABLE, log, number, read_json, table
from analysis.store import arrays, jobs

TENSORS = {
    "tensor": "str",
    "dtype": "str",
    "shape": "str",
    "numel": "int64",
    "bytes": "int64",
    "role": "str",
    "layer": "int64",
    "block": "str",
    "prunable": "bool",
    "encoder": "bool",
    "heads": "int64",
    "head_axis": "int64",
    "transposed": "bool",
    "weight": "str",
    "masked": "bool",
    "analysed": "bool",
    "file": "str",
    "start": "int64",
    "zeros": "float64",
    "sparsity": "float64",
    "nonfinite": "float64",
    "min": "float64",
    "max": "float64",
    "mean": "float64",
    "std": "float64",
    "q01": "float64",
    "q10": "float64",
    "q25": "float64",
    "q50": "float64",
    "q75": "float64",
    "q90": "float64",
    "q99": "float64",
    "rows": "float64",
    "rows_empty": "float64",
    "cols": "float64",
    "cols_empty": "float64",
    "heads_empty": "float64",
    "blocks32": "float64",
    "blocks32_empty": "float64",
    "most02": "float64",
    "most04": "float64",
    "most08": "float64",
    "most16": "float64",
    "tied_to": "str",
    "note": "str",
}
DENOMINATORS = {
    "denominator": "str",
    "total": "int64",
    "zeros": "int64",
    "sparsity": "float64",
    "unit": "str",
}
LAYERS = {
    "site": "str",
    "role": "str",
    "layer": "int64",
    "label": "str",
    "weights": "int64",
    "kept": "float64",
    "keep": "float64",
    "sparsity": "float64",
}
STORAGE = {"form": "str", "bytes": "float64"}
FORMS = (
    "as stored",
    "without masks, scores and repeats",
    "that, as one bit per weight and the values left",
)
NO_PARAMETER = ("statistic", "quantised", "mask", "scores")  # roles that hold no parameter


def inspection(folder: Path) -> dict[str, Any]:
    """Reads what an inspection says of the whole checkpoint; an empty dictionary when there is none."""
    return read_json(Path(folder) / "inspection.json")


def file_problems(folder: Path) -> list[str]:
    """Lists in sentences what is wrong with a checkpoint: the error that ended it, then the rest."""
    note, problems = jobs.read(Path(folder)), inspection(folder).get("problems")
    listed = [str(p) for p in problems] if isinstance(problems, list) else []
    return ([note.reason] if note.reason else []) + listed


def tensors(folder: Path) -> pd.DataFrame:
    """Lists the tensors of an inspected checkpoint.

    Args:
        folder: folder into which the inspection was, or is being, written.

    Returns:
        one row a tensor in the order of the file; sparsity = exact zeros / elements. NaN where the values
        have not been read, or say nothing; ``note`` tells which.
    """
    folder = Path(folder)
    try:
        facts = arrays.load_table(folder / "tensors.parquet")
    except UNREADABLE as error:
        log.info("no tensors in %s: %s", folder, error)
        return table(TENSORS)
    names = facts.pop("name")
    columns: dict[str, Any] = {"tensor": names, **facts, **_numbers(folder, len(names))}
    columns["tied_to"] = _tied(folder, names)
    frame = table(TENSORS, {column: columns.get(column) for column in TENSORS})
    frame["sparsity"] = frame["zeros"] / frame["numel"].where(frame["numel"] > 0)
    frame["note"] = [_note({str(k): v for k, v in row.items()}) for row in frame.to_dict("records")]
    return frame.astype({"note": "str"})


def _tied(folder: Path, names: np.ndarray) -> list[str]:
    """For every tensor the name of the one it repeats, "" for none."""
    out = [""] * len(names)
    try:
        found = arrays.load_table(folder / "tied.parquet")
        for number, same in zip(found["number"].tolist(), found["same"].tolist(), strict=True):
            out[number] = str(names[same])
    except (*UNREADABLE, IndexError) as error:
        log.info("no tied tensors in %s: %s", folder, error)
    return out


def _numbers(folder: Path, count: int) -> dict[str, np.ndarray]:
    """What the parts that are there say: column → float64 [tensors], NaN where nothing is known yet."""
    out: dict[str, np.ndarray] = {}
    for file in sorted((folder / "parts").glob("*.parquet")):
        try:
            part = arrays.load_table(file)
            places = part.pop("number").astype(np.int64)
        except UNREADABLE as error:
            log.info("%s cannot be read: %s", file, error)
            continue
        good = places < count
        for name, values in part.items():
            column = out.setdefault(name, np.full(count, np.nan))
            column[places[good]] = np.array([number(v) for v in values.tolist()])[good]
    return out


def arrays_of(folder: Path, *names: str) -> Iterator[tuple[Any, ...]]:
    """Yields row of ``tensors`` and arrays for every tensor that was read: "value", "count", "row", "col"."""
    for file in sorted((Path(folder) / "parts").glob("*.npz")):
        try:
            yield from arrays.load_ragged(file, *names)
        except UNREADABLE as error:
            log.info("%s cannot be read: %s", file, error)


def _note(row: dict[str, Any]) -> str:
    if row["role"] == "quantised":
        return f"quantised codes, {row['bytes']:,} bytes, not analysed"
    if not row["analysed"]:
        return f"{row['dtype']}, {row['bytes']:,} bytes, not analysed"
    if np.isnan(row["zeros"]):
        return "not read yet"
    notes = [f"{row['nonfinite']:,.0f} values are not finite"] if row["nonfinite"] > 0 else []
    if row["numel"] and row["zeros"] == row["numel"]:
        notes.append("zero throughout")
    if row["tied_to"]:
        notes.append(f"the same as {row['tied_to']}, counted once")
    if row["masked"]:
        notes.append("its mask is applied")
    if row["weight"]:
        own = row["role"] in ("mask", "scores")
        notes.append(f"{row['role']} of {row['weight']}" if own else f"stands for {row['weight']}")
    return "; ".join(notes)


def counted(found: pd.DataFrame) -> pd.DataFrame:
    """The tensors whose values count as parameters: read, no statistic, mask or score, tied ones once."""
    known = found["zeros"].notna() & ~found["role"].isin(NO_PARAMETER) & (found["tied_to"] == "")
    return found[known]


def stored(found: pd.DataFrame) -> pd.DataFrame:
    """The tensors, those that are two names for the same bytes once."""
    return found[~found.duplicated(["file", "start", "bytes"]) | (found["bytes"] == 0)]


def sites(found: pd.DataFrame) -> pd.DataFrame:
    """The prunable matrices among ``counted``."""
    known = counted(found)
    return known[known["prunable"]]


def denominators(folder: Path) -> pd.DataFrame:
    """Gives the sparsity of a checkpoint under each denominator: what share of it is exactly zero.

    Args:
        folder: folder into which the inspection was written.

    Returns:
        four rows: prunable weights, encoder, whole model, and bytes on disk (bytes spent on zeros / size of
        the files); only analysed tensors count in the first three. No row when there is no inspection.
    """
    found = tensors(folder)
    if found.empty:
        return table(DENOMINATORS)
    known = counted(found)
    rows = []
    parts = (("prunable weights", known[known["prunable"]]), ("encoder", known[known["encoder"]]))
    for name, part in (*parts, ("whole model", known)):
        total, zeros = int(part["numel"].sum()), int(part["zeros"].sum())
        share = zeros / total if total else None
        rows.append(
            {"denominator": name, "total": total, "zeros": zeros, "sparsity": share, "unit": "weights"}
        )
    source = inspection(folder).get("source")
    size = number(source.get("bytes")) if isinstance(source, dict) else float("nan")
    read = stored(found)
    read = read[read["zeros"].notna() & ~read["masked"]]  # what a mask hides is stored all the same
    spent = float((read["bytes"] * read["sparsity"]).sum())
    last = {"denominator": "bytes on disk", "total": size, "zeros": round(spent), "unit": "bytes"}
    return table(DENOMINATORS, [*rows, {**last, "sparsity": spent / size if size else None}])


def storage(folder: Path) -> pd.DataFrame:
    """Counts the bytes of a checkpoint as it is stored and as it could be.

    Args:
        folder: folder into which the inspection was written.

    Returns:
        three rows of form and bytes: "as stored"; "without masks, scores and repeats"; "that, as one bit per
        weight and the values left" for every tensor with enough zeros. No row when there is no
        inspection.
    """
    found, said = tensors(folder), inspection(folder)
    size = number(said.get("source", {}).get("bytes")) if said else float("nan")
    if found.empty or not np.isfinite(size):
        return table(STORAGE)
    known = counted(found)
    read = known[(known["numel"] > 0) & (known["zeros"] > 0)]
    width = read["bytes"] / read["numel"]
    packed = read["numel"] / 8 + (read["numel"] - read["zeros"]) * width
    once = stored(found)
    beside = once[once["role"].isin(["mask", "scores"]) | (once["tied_to"] != "")]
    bare = size - float(beside["bytes"].sum())
    forms = (size, bare, bare - float((read["bytes"] - packed).clip(lower=0).sum()))
    return table(STORAGE, {"form": list(FORMS), "bytes": forms})


def layers(folder: Path, only_prunable: bool = True) -> pd.DataFrame:
    """Lists an inspected checkpoint's matrices in the form of ``frames.sites``, for the same figures.

    Args:
        folder: folder into which the inspection was written.
        only_prunable: leave out what is no site.

    Returns:
        one row a tensor; ``label`` names its block as briefly as the others allow: "3", or "layer1.0".
    """
    found = tensors(folder)
    found = sites(found) if only_prunable else counted(found)
    kept = found["numel"] - found["zeros"]
    return table(
        LAYERS,
        {
            "site": found["tensor"].to_numpy(),
            "role": found["role"].to_numpy(),
            "layer": found["layer"].to_numpy(),
            "label": labels(found["block"]).to_numpy(),
            "weights": found["numel"].to_numpy(),
            "kept": kept.to_numpy(),
            "keep": 1 - found["sparsity"].to_numpy(),
            "sparsity": found["sparsity"].to_numpy(),
        },
    )


def labels(blocks: pd.Series) -> pd.Series:
    """Shortens the names of blocks by the words that all of them begin with; "" stays ""."""
    parts = [str(b).split(".") for b in blocks.unique() if b]
    common = 0
    while parts and all(len(p) > common + 1 and p[common] == parts[0][common] for p in parts):
        common += 1
    return blocks.map(lambda b: ".".join(str(b).split(".")[common:]) if b else "")
