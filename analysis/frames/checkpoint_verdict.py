"""What an inspection found, in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import checkpoint
from analysis.frames.checkpoint import counted, inspection, sites, storage, tensors
from analysis.frames.checkpoint_units import units
from analysis.frames.checkpoint_values import histograms, scored
from analysis.frames.tables import number, table

SENTENCES = {"sentence": "str", "view": "str"}
GROUPS = (2, 4, 8, 16)  # neighbours along a row
MOSTLY = 0.9  # share of the zeros that a structure must explain to be called by its name
NAMED = 6
TINY = 1e-12  # below this a weight changes nothing in single precision beside ordinary ones


def findings(folder: Path) -> pd.DataFrame:
    """Says what an inspection found, one sentence a finding.

    Args:
        folder: folder into which the inspection was written.

    Returns:
        sentence, and the view of the page whose figure backs it ("layers", "units", "tensors", "shares",
        "cut").
    """
    found = tensors(folder)
    said = inspection(folder)
    if found.empty or not said:
        return table(SENTENCES)
    rows = [
        ("tensors", _what(found, said)),
        ("layers", _zeros(found)),
        ("sizes", _tiny(folder, found)),
        *(("units", s) for s in _empty(folder, found)),
        ("shares", _storage(folder)),
        *(("tensors", s) for s in _stored(folder, found)),
        *(("tensors", s) for s in _oddities(found, said)),
    ]
    return table(SENTENCES, [{"sentence": s, "view": view} for view, s in rows if s])


def _what(found: pd.DataFrame, said: dict[str, Any]) -> str:
    known = counted(found)
    mine = found[~found["role"].isin(checkpoint.NO_PARAMETER) & (found["tied_to"] == "")]
    largest = mine.groupby("dtype")["bytes"].sum().sort_values(ascending=False)
    listed = list(largest.index[:4])
    types = " and ".join(filter(None, [", ".join(listed[:-1]), *listed[-1:]]))
    read = "" if len(known) == len(mine) else f", {int(known['numel'].sum()):,} of them read"
    size = number(said.get("source", {}).get("bytes"))
    return (
        f"{said.get('format', 'A checkpoint')} of {megabytes(size)} with {len(found):,} tensors: "
        f"{int(mine['numel'].sum()):,} parameters in {types or 'no known type'}{read}."
    )


def _zeros(found: pd.DataFrame) -> str:
    known = sites(found)
    total, zeros = int(known["numel"].sum()), int(known["zeros"].sum())
    if not total:
        return (
            "No prunable weight is recognised among the tensors read: there is no linear or convolution "
            "weight outside embeddings and heads."
        )
    share = zeros / total
    if zeros == 0:
        return f"Dense: none of the {total:,} prunable weights is zero."
    words = f"{_kind(known)}, {_percent(share)} of {total:,} prunable weights are zero"
    if share < 0.001:
        return f"As good as dense: {zeros:,} of {total:,} prunable weights are zero."
    each = known["sparsity"]
    low, high = each.min(), each.max()
    spread = f"; from {_percent(low)} to {_percent(high)} by matrix" if high - low > 0.01 else ""
    return f"{words}{spread}."


def _tiny(folder: Path, found: pd.DataFrame) -> str:
    """Weights that a penalty drove towards zero without ever setting them to it."""
    known = sites(found)
    count = 0
    for values, counts in histograms(folder, known.index).values():
        count += int(counts[np.abs(values) < TINY].sum())
    total = int(known["numel"].sum())
    if count < 0.001 * total or not count:
        return ""
    return (
        f"{count:,} more ({_percent(count / total)}) are smaller than 10⁻¹²: as good as zero, but not "
        "counted as zeros here."
    )


def _kind(known: pd.DataFrame) -> str:
    """The name of the structure that explains nearly all of the zeros."""
    zeros = known["zeros"].sum()
    gone = known["zeros"] == known["numel"]
    if known.loc[gone, "zeros"].sum() >= MOSTLY * zeros:
        return "Whole matrices removed"
    rows = known["numel"] * known["rows_empty"] / known["rows"]
    cols = known["numel"] * known["cols_empty"] / known["cols"]
    both = rows + cols - rows * cols / known["numel"].where(known["numel"] > 0)
    if rows.sum() >= MOSTLY * zeros:
        return "Structured by rows"
    if cols.sum() >= MOSTLY * zeros:
        return "Structured by columns"
    if both.sum() >= MOSTLY * zeros:
        return "Structured by rows and columns"
    whole = known[["rows", "cols"]].mod(32).eq(0).all(axis=1)  # a block cut by an edge holds fewer
    if (1024 * known["blocks32_empty"].where(whole, 0)).sum() >= MOSTLY * zeros:
        return "In blocks of 32 × 32"
    for size in GROUPS:
        most = known[f"most{size:02d}"]
        if most.notna().all() and all(full(known, size)):
            return f"{most.max():.0f}:{size} along the rows"
    return "Unstructured"


def full(known: pd.DataFrame, size: int) -> pd.Series:
    """Says of every matrix whether it keeps to N:M on purpose: no more than half of M, and hardly ever less.

    Single weights pruned at random leave few of any M too, but rarely as many as the fullest group has.
    """
    most = known[f"most{size:02d}"]
    zeros = known["numel"] * (1 - most / size)
    return (most > 0) & (most <= size / 2) & (known["zeros"] <= 1.05 * zeros)


def _empty(folder: Path, found: pd.DataFrame) -> list[str]:
    """What is empty as a whole: matrices, heads, neurons, channels."""
    known = sites(found)
    out = []
    gone = known[(known["zeros"] == known["numel"]) & (known["numel"] > 0)]
    if len(gone):
        out.append(f"{_count(len(gone), 'matrix', 'matrices')} zero throughout: {_names(gone['tensor'])}.")
    cut = units(folder)
    for kind in ("heads", "neurons"):
        part = cut[cut["kind"] == kind]
        if len(part) and part["empty"].sum():
            where = part[part["empty"] > 0]
            out.append(
                f"{part['empty'].sum():,} of {part['units'].sum():,} {kind} already empty, in "
                f"{_count(len(where), 'layer', 'layers')}: they can be cut out."
            )
    conv = known[(known["role"] == "conv") & (known["zeros"] < known["numel"])]
    for words, empty, total in (("filters", "rows_empty", "rows"), ("input channels", "cols_empty", "cols")):
        hit = conv[conv[empty] > 0]
        if len(hit):
            out.append(
                f"{hit[empty].sum():,.0f} of {hit[total].sum():,.0f} {words} empty in "
                f"{_count(len(hit), 'convolution', 'convolutions')}: {_names(hit['tensor'])}."
            )
    return out


def _storage(folder: Path) -> str:
    """What the file costs as it is, and what a bit mask with the values that are left would."""
    sizes = storage(folder)["bytes"].tolist()
    if not sizes or sizes[0] - sizes[2] < 0.02 * sizes[0]:
        return ""
    left = f"as one bit per weight and the values that are left it would be {megabytes(sizes[2])}"
    if sizes[1] < sizes[0]:
        return (
            f"As stored it takes {megabytes(sizes[0])}, masks, scores or repeated tensors among them; "
            f"without, and {left}."
        )
    return f"As stored it is no smaller than dense, {megabytes(sizes[0])}; {left}."


def _stored(folder: Path, found: pd.DataFrame) -> list[str]:
    """Masks and scores beside the weights, and the mask that a run meant."""
    out = []
    masked = found[found["masked"]]
    if len(masked):
        out.append(
            f"{_count(len(masked), 'mask is', 'masks are')} stored beside the weights; everything here is "
            "counted with them applied."
        )
    scores = scored(folder)
    if len(scores):
        out.append(
            f"Scores are stored for {_count(len(scores), 'matrix', 'matrices')}, and no cut: where they "
            "would be cut is not in the file."
        )
    return out + _lost(found, inspection(folder))


def _lost(found: pd.DataFrame, said: dict[str, Any]) -> list[str]:
    """Compares a run's masks with the zeros of its saved weights, or with what is left of them."""
    told = said.get("run")
    rows = [(k, *v) for k, v in told.items() if isinstance(v, list) and len(v) == 2] if told else []
    wanted = pd.DataFrame(rows, columns=["site", "weights", "kept"]).set_index("site")
    mine = found.set_index(found["tensor"].str.removesuffix(".weight"))
    both = wanted.join(mine[["numel", "zeros"]], how="inner")
    if both.empty:
        return []
    weights, kept, stored = (int(both[c].sum()) for c in ("weights", "kept", "numel"))
    count = _count(len(both), "matrix", "matrices")
    if stored < weights:
        return [
            f"Compact: of {weights:,} weights in {count} of its run {stored:,} are stored, the rest is cut "
            "out."
        ]
    pruned, zeros = weights - kept, int(both["zeros"].sum())
    if not pruned:
        return []
    if zeros < 0.999 * pruned:
        return [
            f"Lost mask: the run pruned {_percent(pruned / weights)} of {count}, in the file "
            f"{_percent(zeros / weights)} are zero."
        ]
    return [f"The zeros of {count} are the masks of its run: {_percent(pruned / weights)} pruned."]


def _oddities(found: pd.DataFrame, said: dict[str, Any]) -> list[str]:
    out = []
    method = f" of {said['quantised_by']}" if said.get("quantised_by") else ""
    same = found[found["tied_to"] != ""]
    if len(same):
        out.append(f"{_count(len(same), 'tensor repeats another and is', 'tensors repeat others and are')} "
                   f"counted once: {_names(same['tensor'])}.")  # fmt: skip
    bad = found[found["nonfinite"] > 0]
    if len(bad):
        out.append(
            f"{bad['nonfinite'].sum():,.0f} values are not finite (NaN or infinite) in "
            f"{_count(len(bad), 'tensor', 'tensors')}: {_names(bad['tensor'])}."
        )
    codes = found[found["role"] == "quantised"]
    if len(codes):
        out.append(
            f"{_count(len(codes), 'tensor holds', 'tensors hold')} quantised codes{method} "
            f"({megabytes(float(codes['bytes'].sum()))}): they are listed, not read as weights."
        )
    other = found[~found["analysed"] & (found["role"] != "quantised")]
    if len(other):
        types = ", ".join(sorted(set(other["dtype"])))
        out.append(
            f"Listed, not analysed: {_count(len(other), 'tensor', 'tensors')} of type {types} "
            f"({megabytes(float(other['bytes'].sum()))})."
        )
    return out


def megabytes(size: float) -> str:
    """Writes a number of bytes in MB or GB (powers of ten)."""
    if not np.isfinite(size):
        return "unknown size"
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _percent(share: float) -> str:
    text = f"{100 * share:.1f}"
    return f"{100 * share:.2g} %" if 0 < share < 0.001 or (share < 1 and text == "100.0") else f"{text} %"


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def _names(names: pd.Series) -> str:
    listed = [str(n).removesuffix(".weight") for n in names]
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more
