"""What two checkpoints' differences say, in sentences whose numbers are in the frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from analysis.frames.compare import KIND, counted, distances, lost_units, tensor_pairs, unpaired, zero_overlap
from analysis.frames.compare_values import kept_by_size

NAMED = 5


def difference(folder: Path) -> list[str]:
    """Writes how B differs from A.

    Args:
        folder: folder into which the comparison was written.

    Returns:
        sentences in the order to be read; [] when there is no comparison.
    """
    frame, alone = tensor_pairs(folder), unpaired(folder)
    if frame.empty and alone.empty:
        return []
    out = _names(frame, alone)
    known = counted(frame)
    if len(known) and known["equal"].all():
        same = frame.loc[frame["how"] != "", "equal"].all()
        return [*out, f"They are equal in {'every' if same else 'every prunable'} weight that both have."]
    if known.empty:
        return out + _unread(frame)
    of = "prunable weights" if known["prunable"].any() else "weights"
    sums = known.select_dtypes("number").sum()
    out += _zeros(sums, of) + _mask(zero_overlap(folder), sums) + _large(kept_by_size(folder), sums, of)
    out += _structure(known, lost_units(folder)) + _distance(known, distances(folder), sums, of)
    bad = int(frame["non_finite"].sum())
    if bad:
        out.append(f"{bad:,} elements are not finite on at least one side and are in no number here.")
    return out + _unread(frame)


def share(fraction: float) -> str:
    """Writes a fraction in per cent with three digits, a large one as a multiple."""
    return f"{100 * fraction:.3g} %" if fraction < 10 else f"{fraction:,.3g} times"


def _names(frame: pd.DataFrame, alone: pd.DataFrame) -> list[str]:
    count = {kind: int((alone["kind"] == kind).sum()) for kind in KIND.values()}
    missing, extra, odd = count[KIND["missing"]], count[KIND["extra"]], count[KIND["shape"]]
    total = len(frame) + missing + odd
    if frame.empty:
        return [
            f"They have no tensor of the same name and shape: A has {missing + odd:,} and B {extra + odd:,}."
        ]
    if not len(alone):
        out = [f"{total:,} of {total:,} tensors of A have a partner in B, and B has no more."]
    else:
        said = {"missing": "missing in B", "extra": "only in B", "shape": "of another shape"}
        words = [
            f"{count[kind]:,} {said[key]} (such as {alone.loc[alone['kind'] == kind, 'tensor'].iloc[0]})"
            for key, kind in KIND.items()
            if count[kind]
        ]
        out = [f"{len(frame):,} of A's {total:,} tensors have a partner in B; {', '.join(words)}."]
    renamed = frame[frame["name_b"] != ""]
    if len(renamed):
        a, b = renamed["tensor"].iloc[0], renamed["name_b"].iloc[0]
        out.append(f"{len(renamed):,} partners have another name in B, such as {b} for {a}.")
    return out


def _zeros(sums: pd.Series, of: str) -> list[str]:
    total, a, b = sums["compared"], sums["zeros_a"], sums["zeros_b"]
    if not total:
        return []
    if not a and not b:
        return [f"Neither has a zero among its {total:,.0f} {of}."]
    return [
        f"B has {share(b / total)} zeros among its {of} where A has {share(a / total)}: "
        f"{sums['zeros_gained']:,.0f} gained, {sums['zeros_lost']:,.0f} lost."
    ]


def _mask(frame: pd.DataFrame, sums: pd.Series) -> list[str]:
    if not sums["zeros_a"]:
        return []
    row = frame[frame["site"] == "overall"].iloc[0]
    said = (
        f"What is not zero overlaps with a Jaccard index of {row['jaccard']:.3f}, where chance that keeps as "
        f"many of every matrix gives {row['expected']:.3f}"
    )
    if not sums["zeros_gained"] and not sums["zeros_lost"]:
        return [f"{said}: the same weights are zero in both, so the mask was kept."]
    if not sums["zeros_lost"]:
        return [f"{said}: every zero of A is still zero in B, which has more of them."]
    lost = sums["zeros_lost"] / sums["zeros_a"]
    return [f"{said}: {share(lost)} of A's zeros are not zero in B."]


def _large(tenths: pd.DataFrame, sums: pd.Series, of: str) -> list[str]:
    if tenths.empty or not sums["zeros_gained"]:
        return []
    last, first = tenths.iloc[-1], tenths.iloc[0]
    return [
        f"Of the 10 % largest {of} of A (|w| of {last['low']:.2g} and more) {share(last['share'])} are kept "
        f"in B, of the 10 % smallest {share(first['share'])}; chance would keep {share(last['chance'])}."
    ]


def _structure(known: pd.DataFrame, blocks: pd.DataFrame) -> list[str]:
    out = []
    gone = known[(known["zeros_b"] == known["compared"]) & (known["zeros_gained"] > 0)]
    if len(gone):
        are = "is" if len(gone) == 1 else "are"
        out.append(f"{_some(gone['tensor'])} {are} zero throughout in B and not in A.")
    for kind, why in (("heads", "output columns or value rows"), ("neurons", "rows in or columns out")):
        part = blocks[blocks["kind"] == kind]
        lost, back = int(part["lost"].sum()), int(part["regained"].sum())
        total, where = int(part["total"].sum()), part[part["lost"] > 0]["layer"].nunique()
        if lost:
            layers = "1 layer" if where == 1 else f"{where:,} layers"
            said = f"{lost:,} of {total:,} {kind} are lost in B, in {layers} (their {why} became zero)"
            out.append(f"{said}; {back:,} that were empty in A are not in B." if back else f"{said}.")
        elif back:
            out.append(f"{back:,} of {total:,} {kind} that were empty in A are not in B; none is lost.")
    counts = {name: int(known[f"{name[:4]}_emptied"].sum()) for name in ("rows", "cols")}
    words = [f"{n:,} {'rows' if name == 'rows' else 'columns'}" for name, n in counts.items() if n]
    return [*out, f"{' and '.join(words)} of matrices became empty in B."] if words else out


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMED:,} more" if len(listed) > NAMED else ""
    word = "matrix" if len(listed) == 1 else "matrices"
    return f"{len(listed):,} {word} ({', '.join(listed[:NAMED])}{more})"


def _distance(known: pd.DataFrame, cells: pd.DataFrame, sums: pd.Series, of: str) -> list[str]:
    size = float((known["norm_a"] ** 2).sum())
    out = []
    if size:
        whole = (float((known["l2"] ** 2).sum()) / size) ** 0.5
        said = f"The distance from A to B is {share(whole)} of A's own length ({of} as one vector)"
        placed = cells[cells["relative"].notna()].sort_values("relative", kind="stable")
        if len(placed) > 1:
            (least, low), (most, high) = (
                (_place(row), share(row["relative"])) for row in (placed.iloc[0], placed.iloc[-1])
            )
            said += f": most in {most} ({high}), least in {least} ({low})"
        out.append(f"{said}.")
    if sums["both"]:
        flipped = share(sums["sign_flips"] / sums["both"])
        out.append(
            f"{flipped} of the {of} that are zero in neither changed their sign (about 50 % where the two "
            "have nothing in common)."
        )
    return out


def _place(cell: pd.Series) -> str:
    return f"{cell['role']} of layer {cell['layer']}" if cell["layer"] >= 0 else str(cell["role"])


def _unread(frame: pd.DataFrame) -> list[str]:
    out = []
    by_bytes = frame[frame["how"] == "bytes"]
    differ = int((~by_bytes["equal"]).sum())
    if differ:
        out.append(
            f"{differ:,} tensors of types that are only compared byte by byte have other bytes in B; no more "
            "is said of them."
        )
    unread = int((frame["how"] == "").sum())
    if unread:
        out.append(f"{unread:,} pairs could not be compared; the table says why.")
    return out
