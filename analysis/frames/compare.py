"""How two checkpoints differ: pairs of tensors, what is alone, distances, zeros and masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.overlap import OVERLAP, expected_jaccard
from analysis.frames.tables import UNREADABLE, log, number, read_json, table
from analysis.store import arrays

PAIRS = {
    "tensor": "str",
    "name_b": "str",
    "role": "str",
    "layer": "int64",
    "prunable": "bool",
    "shape": "str",
    "numel": "int64",
    "dtype_a": "str",
    "dtype_b": "str",
    "how": "str",
    "note": "str",
    "equal": "bool",
    "tied": "bool",
    "relative": "float64",
    "cosine": "float64",
    "flipped": "float64",
    "jaccard": "float64",
    "expected": "float64",
    **dict.fromkeys(("l2", "norm_a", "norm_b", "largest", "sign_flips"), "float64"),
    **dict.fromkeys(("compared", "non_finite", "zeros_a", "zeros_b"), "float64"),
    **dict.fromkeys(("zeros_gained", "zeros_lost", "both"), "float64"),
    **dict.fromkeys(("rows_emptied", "rows_filled", "cols_emptied", "cols_filled"), "float64"),
    "heads": "float64",
    "heads_lost": "float64",
}
OTHERS = {
    "tensor": "str",
    "kind": "str",
    "role": "str",
    "layer": "int64",
    "numel": "int64",
    "shape_a": "str",
    "shape_b": "str",
}
STRUCTURES = {
    "layer": "int64",
    "block": "str",
    "kind": "str",
    "total": "int64",
    "empty_a": "int64",
    "empty_b": "int64",
    "lost": "int64",
    "regained": "int64",
}
DISTANCES = {
    "layer": "int64",
    "role": "str",
    "tensors": "int64",
    "weights": "int64",
    "relative": "float64",
    "cosine": "float64",
    "flipped": "float64",
    "gained": "float64",
    "lost": "float64",
}
KIND = {"missing": "only in A", "extra": "only in B", "shape": "other shape"}
_DOCUMENT = (
    *("name", "name_b", "role", "layer", "shape", "how", "note", "equal", "l2", "relative_l2", "cosine"),
    *("largest", "sign_flips", "zeros_a", "zeros_b", "zeros_gained", "zeros_lost", "jaccard"),
    *("jaccard_by_chance", "non_finite", "rows_emptied", "cols_emptied", "heads_lost"),
)


def comparison(folder: Path) -> dict[str, Any]:
    """Reads what a whole comparison says of itself; an empty dictionary when there is none."""
    return read_json(Path(folder) / "comparison.json")


def tensor_pairs(folder: Path) -> pd.DataFrame:
    """Lists the pairs of tensors of a comparison, in the order of A.

    Args:
        folder: folder into which the comparison was written.

    Returns:
        one row a pair; relative = ‖b − a‖ / ‖a‖, flipped = sign flips / weights that are zero on neither
        side, jaccard = weights that are zero on neither / on at most one side, and expected = what chance
        would give it; NaN where the pair was not compared by value.
    """
    found = _load(folder, "pairs.parquet")
    if found is None:
        return table(PAIRS)
    frame = table(PAIRS, {**{name: found.get(name) for name in PAIRS}, "tensor": found.get("name")})
    frame["relative"] = frame["l2"] / frame["norm_a"].where(frame["norm_a"] > 0)
    frame["flipped"] = frame["sign_flips"] / frame["both"].where(frame["both"] > 0)
    kept_a, kept_b = frame["compared"] - frame["zeros_a"], frame["compared"] - frame["zeros_b"]
    either = kept_a + kept_b - frame["both"]
    frame["jaccard"] = frame["both"] / either.where(either > 0)
    known = zip(frame["compared"], kept_a, kept_b, strict=True)
    frame["expected"] = [expected_jaccard(n, a, b) if n > 0 else np.nan for n, a, b in known]
    return frame


def _load(folder: Path, name: str) -> arrays.Arrays | None:
    try:
        return arrays.load_table(Path(folder) / name)
    except UNREADABLE as error:
        log.info("no %s in %s: %s", name, folder, error)
        return None


def counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Keeps the pairs that were compared by value, tied ones once: prunable matrices, or all if none is."""
    known = frame[(frame["how"] == "values") & ~frame["tied"]]
    return known[known["prunable"]] if known["prunable"].any() else known


def unpaired(folder: Path) -> pd.DataFrame:
    """Lists the tensors without a partner: "only in A", "only in B", or in both in an "other shape"."""
    found = _load(folder, "others.parquet") or {}
    frame = table(OTHERS, {**{name: found.get(name) for name in OTHERS}, "tensor": found.get("name")})
    return frame.assign(kind=frame["kind"].map(KIND).fillna("").astype("str"))


def lost_units(folder: Path) -> pd.DataFrame:
    """Lists the heads and neurons of each block: how many are empty in A, in B, lost and regained."""
    return table(STRUCTURES, _load(folder, "structures.parquet") or {})


def distances(folder: Path, only_prunable: bool = True) -> pd.DataFrame:
    """Adds pairs up to layers and roles.

    Args:
        folder: folder of the comparison.
        only_prunable: leave out what is no prunable matrix, where there are any.

    Returns:
        one row a layer and role; relative = √Σ‖b − a‖² / √Σ‖a‖², cosine of all their weights as one vector,
        flipped as in ``tensor_pairs``, gained and lost = zeros gained and lost / weights.
    """
    frame = tensor_pairs(folder)
    frame = counted(frame) if only_prunable else frame[(frame["how"] == "values") & ~frame["tied"]]
    rows = []
    for (layer, role), part in frame.groupby(["layer", "role"], sort=True):
        sums = part.select_dtypes("number").sum()
        aa, bb = float((part["norm_a"] ** 2).sum()), float((part["norm_b"] ** 2).sum())
        ab = float((part["cosine"] * part["norm_a"] * part["norm_b"]).sum())
        rows.append(
            {
                "layer": layer,
                "role": role,
                "tensors": len(part),
                "weights": sums["compared"],
                "relative": _share(float((part["l2"] ** 2).sum()), aa) ** 0.5,
                "cosine": _share(ab, (aa * bb) ** 0.5),
                "flipped": _share(sums["sign_flips"], sums["both"]),
                "gained": _share(sums["zeros_gained"], sums["compared"]),
                "lost": _share(sums["zeros_lost"], sums["compared"]),
            }
        )
    return table(DISTANCES, rows)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def zero_overlap(folder: Path) -> pd.DataFrame:
    """Lists the overlap of what is not zero in the form of ``frames.overlap``, for the same figures."""
    known = counted(tensor_pairs(folder))
    rows: list[dict[str, Any]] = []
    for pair in known.to_dict("records"):
        row = {name: pair[name] for name in ("role", "layer", "both", "jaccard", "expected")}
        kept = {f"kept_{side}": pair["compared"] - pair[f"zeros_{side}"] for side in ("a", "b")}
        rows.append({**row, "site": pair["tensor"], "weights": pair["compared"], **kept})
    if rows:
        sums = {k: sum(r[k] for r in rows) for k in ("weights", "kept_a", "kept_b", "both")}
        chance = sum(r["kept_a"] * r["kept_b"] / r["weights"] for r in rows if r["weights"])
        either = sums["kept_a"] + sums["kept_b"]
        overall = {"site": "overall", "role": "", "layer": -1, **sums}
        overall |= {"jaccard": _share(sums["both"], either - sums["both"])}
        rows.append(overall | {"expected": _share(chance, either - chance)})
    return table(OVERLAP, rows)


def document(folder: Path) -> dict[str, Any]:
    """Gives a comparison as one JSON document.

    Args:
        folder: folder into which the comparison was written.

    Returns:
        ``pairs``: one object a pair with "name" and ``_DOCUMENT``'s other keys, ``missing`` and ``extra``:
        names that only A and only B has, ``reshaped``: names with the shape on both sides. What is unknown or
        does not apply is None.
    """
    names = {"name": "tensor", "relative_l2": "relative", "jaccard_by_chance": "expected"}
    rows = []
    for pair in tensor_pairs(folder).to_dict("records"):
        row = {name: _plain(pair[names.get(name, name)]) for name in _DOCUMENT}
        rows.append(
            row | {"name_b": row["name_b"] or row["name"], "equal": row["equal"] if row["how"] else None}
        )
    alone = unpaired(folder)
    out: dict[str, Any] = {"pairs": rows}
    for kind in ("missing", "extra"):
        out[kind] = alone.loc[alone["kind"] == KIND[kind], "tensor"].tolist()
    odd = alone[alone["kind"] == KIND["shape"]].rename(columns={"tensor": "name"})
    return out | {"reshaped": odd[["name", "shape_a", "shape_b"]].to_dict("records")}


def _plain(value: Any) -> Any:
    if isinstance(value, (str, bool)):
        return value
    found = number(value)
    if not np.isfinite(found):
        return None
    return int(found) if found.is_integer() and abs(found) < 2**53 else found
