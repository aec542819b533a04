"""The rows of a comparison: what names and headers say of each pair, and the numbers found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.engine.inspect.contrast import FLOATS, MASKS, Contrast
from analysis.engine.inspect.header import clean
from analysis.engine.inspect.layouts import shown
from analysis.engine.inspect.lost import emptied
from analysis.engine.inspect.match import Matched, Side


class Labels:
    """Makes the rows of pairs: what names say, and what was found."""

    def __init__(self, pairs: Sequence[tuple[Side, Side]]) -> None:
        self.pairs = pairs
        self.names = shown(a.name for a, _ in pairs)
        first: dict[Any, int] = {}
        places = [(a.entry.file, a.entry.start, b.entry.file, b.entry.start) for a, b in pairs]
        self.tied = [
            a.size > 0 and first.setdefault(p, i) != i
            for i, ((a, _), p) in enumerate(zip(pairs, places, strict=True))
        ]

    def row(self, place: int, how: tuple[str, str], found: Any) -> tuple[dict[str, Any], Contrast | None]:
        """Returns the row of a pair, and its counts where they are to be added up."""
        a, b = self.pairs[place]
        row = _label(a) | {"name": self.names[place], "how": how[0], "note": how[1], "tied": self.tied[place]}
        row |= {
            "name_b": clean(b.entry.name) if b.entry.name != a.entry.name else "",
            "bytes": a.size + b.size,
        }
        row |= {"shape": shape_text(a), "dtype_a": a.entry.dtype, "dtype_b": b.entry.dtype}
        if how[0] != "values":
            return row | {"equal": found if how[0] == "bytes" else None}, None
        row |= found.row()
        row["equal"] = not row["largest"] and not row["non_finite"]
        gone = emptied(a.name, a.what, found)
        if gone and gone["kind"] == "heads":
            row |= {"heads": gone["total"], "heads_lost": len(set(gone["b"]) - set(gone["a"]))}
        return row | {"emptied": gone}, None if row["tied"] else found


def _label(side: Side) -> dict[str, Any]:
    what = side.what
    return {
        "role": what.role,
        "layer": what.layer,
        "block": what.block,
        "prunable": what.prunable,
        "numel": what.entry.numel,
    }


def way(a: Side, b: Side) -> tuple[str, str]:
    """Decides how a pair can be compared: "values", "bytes" or ""; and says why, or what is done to it."""
    dtypes, masks = (a.entry.dtype, b.entry.dtype), [side.what.mask for side in (a, b)]
    if not all(entry.ordered for entry in (a.entry, b.entry)):
        return "", "stored in another order than its shape says, not compared"
    if any(mask is not None and mask.dtype not in MASKS for mask in masks):
        return "", "its mask is of a type that cannot be multiplied with, not compared"
    if all(dtype in FLOATS for dtype in dtypes) and a.what.role != "quantised":
        return "values", "; ".join(
            f"{name} is taken times its mask" for name, mask in zip("AB", masks, strict=True) if mask
        )
    if dtypes[0] == dtypes[1] and a.entry.size == b.entry.size:
        return "bytes", f"{dtypes[0]}, only whether the bytes are equal"
    return "", f"{dtypes[0]} and {dtypes[1]}, not compared"


def others(matched: Matched) -> list[dict[str, Any]]:
    """Makes the rows of what has no partner: "missing" and "extra", and "shape" where shapes differ."""
    alone: list[tuple[str, Side | None, Side | None]] = [("missing", t, None) for t in matched.missing]
    alone += [("extra", None, t) for t in matched.extra] + [("shape", a, b) for a, b in matched.reshaped]
    rows = []
    for kind, a, b in alone:
        tensor = a or b
        if tensor is None:
            continue
        shapes = {"shape_a": shape_text(a) if a else "", "shape_b": shape_text(b) if b else ""}
        rows.append({"name": clean(tensor.name), "kind": kind} | _label(tensor) | shapes)
    return rows


def shape_text(tensor: Side) -> str:
    """Writes a shape as a person reads it."""
    return " × ".join(str(n) for n in tensor.shape) or "scalar"
