"""What is in a checkpoint: the tensors of an inspection, and its sparsity under every denominator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.tables import UNREADABLE, log, number, read_json, table
from analysis.store import arrays

TENSORS = {
    "tensor": "str",
    "dtype": "str",
    "shape": "str",
    "numel": "int64",
    "bytes": "int64",
    "role": "str",
    "layer": "int64",
    "prunable": "bool",
    "encoder": "bool",
    "analysed": "bool",
    "zeros": "float64",
    "sparsity": "float64",
    "non_finite": "float64",
    "min": "float64",
    "max": "float64",
    "mean": "float64",
    "std": "float64",
    "abs_median": "float64",
    "abs_99": "float64",
    "rows_empty": "float64",
    "cols_empty": "float64",
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
    "weights": "int64",
    "kept": "float64",
    "keep": "float64",
    "sparsity": "float64",
}
BINS = {"low": "float64", "high": "float64", "count": "int64"}


def inspection(folder: Path) -> dict[str, Any]:
    """Reads the whole inspection of a checkpoint; an empty dictionary when there is none."""
    return read_json(Path(folder) / "inspection.json")


def file_problems(folder: Path) -> list[str]:
    """Lists in sentences what is wrong with a checkpoint: the error that ended it, then the rest."""
    found = inspection(folder)
    error, problems = found.get("error"), found.get("problems")
    return ([str(error)] if error else []) + [
        str(p) for p in (problems if isinstance(problems, list) else [])
    ]


def tensors(folder: Path) -> pd.DataFrame:
    """Lists the tensors of an inspected checkpoint.

    Args:
        folder: folder into which the inspection was written.

    Returns:
        one row a tensor; sparsity = exact zeros / elements, NaN for types that are not analysed (``note``
        says so).
    """
    try:
        found = arrays.load_table(Path(folder) / "tensors.parquet")
    except UNREADABLE as error:
        log.info("no tensors in %s: %s", folder, error)
        return table(TENSORS)
    names = {"tensor": "name", "abs_median": "q50", "abs_99": "q99"}
    frame = table(TENSORS, {column: found.get(names.get(column, column)) for column in TENSORS})
    frame["sparsity"] = frame["zeros"] / frame["numel"].where(frame["numel"] > 0)
    frame["note"] = [_note({str(k): v for k, v in row.items()}) for row in frame.to_dict("records")]
    return frame.astype({"note": "str"})


def _note(row: dict[str, Any]) -> str:
    if row["role"] == "quantised":
        return f"quantised codes, {row['bytes']} bytes, not analysed"
    if not row["analysed"]:
        return f"{row['dtype']}, {row['bytes']} bytes, not analysed"
    notes = [f"{row['non_finite']:.0f} values are not finite"] if row["non_finite"] > 0 else []
    if row["numel"] and row["zeros"] == row["numel"]:
        notes.append("zero throughout")
    return "; ".join(notes)


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
    known = found[found["analysed"]]
    weights = known[~known["role"].isin(["statistic"])]
    rows = []
    parts = (("prunable weights", weights[weights["prunable"]]), ("encoder", weights[weights["encoder"]]))
    for name, part in (*parts, ("whole model", weights)):
        total, zeros = int(part["numel"].sum()), int(part["zeros"].sum())
        share = zeros / total if total else None
        rows.append(
            {"denominator": name, "total": total, "zeros": zeros, "sparsity": share, "unit": "weights"}
        )
    source = inspection(folder).get("source")
    size = number(source.get("bytes")) if isinstance(source, dict) else float("nan")
    spent = float((known["bytes"] * known["sparsity"]).sum())
    last = {"denominator": "bytes on disk", "total": size, "zeros": round(spent), "unit": "bytes"}
    return table(DENOMINATORS, [*rows, {**last, "sparsity": spent / size if size else None}])


def layers(folder: Path, only_prunable: bool = True) -> pd.DataFrame:
    """Lists an inspected checkpoint's matrices in the form of ``frames.sites``, for the same figures."""
    found = tensors(folder)
    found = found[found["analysed"] & (found["prunable"] | (not only_prunable))]
    kept = found["numel"] - found["zeros"]
    return table(
        LAYERS,
        {
            "site": found["tensor"].to_numpy(),
            "role": found["role"].to_numpy(),
            "layer": found["layer"].to_numpy(),
            "weights": found["numel"].to_numpy(),
            "kept": kept.to_numpy(),
            "keep": 1 - found["sparsity"].to_numpy(),
            "sparsity": found["sparsity"].to_numpy(),
        },
    )


def tensor_histogram(folder: Path, tensor: str) -> pd.DataFrame:
    """Lists the value histogram of one tensor without its exact zeros; the outer bins reach to infinity."""
    names = tensors(folder)["tensor"].tolist()
    try:
        found = arrays.load_arrays(Path(folder) / "histograms.npz")
        at = names.index(tensor)
        limit, counts = float(found["limits"][at]), found["counts"][at]
    except (*UNREADABLE, IndexError) as error:
        log.info("no histogram of %r in %s: %s", tensor, folder, error)
        return table(BINS)
    edges = np.concatenate([[-np.inf], np.linspace(-limit, limit, len(counts) - 1), [np.inf]])
    return table(BINS, {"low": edges[:-1], "high": edges[1:], "count": counts})
