"""What the measured curves say, in sentences computed from them, whoever leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from analysis.frames.curves import usual

SAME = 0.08  # two keeps are the same place on the axis when they differ by less than this share of themselves
FRACTIONS = ("accuracy", "f1", "exact_match", "matthews", "pearson", "spearman", "mcc", "acc")


def verdict(
    curves: pd.DataFrame,
    by: Sequence[str] = ("recipe",),
    *,
    of: str = "the prunable weights",
    titles: Mapping[str, str] | None = None,
    reference: str = "dense",
    better: str = "higher",
) -> list[str]:
    """Writes what the curves show: who leads where and by how much, where lines cross, and how sure that is.

    Args:
        curves: a frame of ``frames.curves``; lines of other settings count only where there are no others.
        by: columns that name a line.
        of: denominator of the keeps, as it reads after "of".
        titles: what recipes are called in the figure; None for their names.
        reference: recipe that is no competitor, because it prunes nothing.
        better: "higher" or "lower", which values of the metric are good.

    Returns:
        sentences in the order to be read; one sentence saying what is missing when nothing can be compared.
    """
    known = curves[curves["recipe"] != reference] if "recipe" in curves else curves
    known = usual(known[np.isfinite(known["keep"]) & np.isfinite(known["mean"])])
    by = [*by, "variant"]
    lines = {
        _label(by, key, titles or {}): part.sort_values("keep")
        for key, part in known.groupby(by, sort=True, dropna=False)
    }
    if len(lines) < 2:
        return ["Nothing can be compared yet: at least two recipes must be measured at about the same keep."]
    scale, unit = _unit(curves)
    sign = 1.0 if better == "higher" else -1.0
    sentences = []
    for keep in _places(known["keep"]):
        here = {name: near for name, part in lines.items() if (near := _near(part, keep)) is not None}
        if len(here) > 1:
            sentences.append(_leader(here, keep, of, scale, unit, sign))
    if not sentences:
        return ["Nothing can be compared yet: no two recipes were measured at about the same keep."]
    alone = [name for name, part in lines.items() if not _met(part, lines, name)]
    if alone:
        sentences.append(
            f"{_joined(alone)} kept other amounts and {'is' if len(alone) == 1 else 'are'} in no comparison "
            "above."
        )
    for (a, first), (b, second) in combinations(lines.items(), 2):
        sentences += _crossings(a, first, b, second)
    if int(known["runs"].max()) == 1:
        sentences.append(
            "Every point is a single run: repeat with more seeds before believing a small difference."
        )
    return sentences


def _met(part: pd.DataFrame, lines: Mapping[str, pd.DataFrame], name: str) -> bool:
    """Whether any other line was measured at about one of the keeps of this one."""
    others = [line for other, line in lines.items() if other != name]
    return any(_near(line, keep) is not None for line in others for keep in part["keep"])


def _joined(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _label(by: Sequence[str], key: object, titles: Mapping[str, str]) -> str:
    values = key if isinstance(key, tuple) else (key,)
    names = []
    for column, value in zip(by, values, strict=True):
        if isinstance(value, float):
            names.append(f"{column} {value:g}" if np.isfinite(value) else f"{column} unknown")
        else:
            names.append(titles.get(str(value), str(value).replace("_", " ")))
    return ", ".join(name for name in names if name)


def _unit(curves: pd.DataFrame) -> tuple[float, str]:
    metric = str(curves["metric"].iloc[0]) if "metric" in curves and len(curves) else ""
    values = curves[["low", "high"]].abs().to_numpy(dtype=np.float64)
    fraction = bool(np.nanmax(values, initial=0.0) <= 1.0) and metric.lower() in FRACTIONS
    return (100.0, "points") if fraction else (1.0, metric.replace("_", " ") or "units")


def _places(keeps: pd.Series) -> list[float]:
    places: list[float] = []
    for keep in sorted(keeps, reverse=True):
        if not places or keep < places[-1] * (1 - SAME):
            places.append(float(keep))
    return places


def _near(part: pd.DataFrame, keep: float) -> pd.Series | None:
    far = (part["keep"] - keep).abs()
    return part.iloc[int(far.to_numpy().argmin())] if float(far.min()) <= SAME * keep else None


def _leader(here: dict[str, pd.Series], keep: float, of: str, scale: float, unit: str, sign: float) -> str:
    order = sorted(here, key=lambda name: (-sign * float(here[name]["mean"]), name))
    first, second = here[order[0]], here[order[1]]
    gap = scale * abs(float(first["mean"]) - float(second["mean"]))
    place = f"With about {_percent(keep)} of {of} kept"
    others = "" if len(order) == 2 else f" (then {', '.join(order[2:])})"
    if float(f"{gap:.1f}") == 0:
        return f"{place}, {order[0]} and {order[1]} are level{others}."
    said = f"{place}, {order[0]} leads {order[1]} by {gap:.1f} {unit}{others}"
    least = min(int(first["runs"]), int(second["runs"]))
    if least < 2:
        alone = [name for name in order[:2] if int(here[name]["runs"]) < 2]
        were = "was" if len(alone) == 1 else "were"
        return f"{said}; {' and '.join(alone)} {were} run only once, so this may be chance."
    apart = (
        float(first["low"]) > float(second["high"])
        if sign > 0
        else float(first["high"]) < float(second["low"])
    )
    seeds = f"{int(first['runs'])} and {int(second['runs'])} seeds"
    if apart:
        return f"{said}, and the ranges of their seeds do not overlap ({seeds})."
    return f"{said}, but the ranges of their seeds overlap ({seeds}), so this is within the noise."


def _crossings(a: str, first: pd.DataFrame, b: str, second: pd.DataFrame) -> list[str]:
    """Finds where two lines cross, straight in log keep between the points that both cover."""
    x1, x2 = np.log(first["keep"].to_numpy()), np.log(second["keep"].to_numpy())
    low, high = max(x1[0], x2[0]), min(x1[-1], x2[-1])
    grid = np.unique(np.concatenate([x1, x2]))
    grid = grid[(grid >= low) & (grid <= high)]
    if len(grid) < 2:
        return []
    gap = np.interp(grid, x1, first["mean"].to_numpy()) - np.interp(grid, x2, second["mean"].to_numpy())
    out = []
    for i in np.nonzero(gap[:-1] * gap[1:] < 0)[0]:
        at = float(np.exp(grid[i] + (grid[i + 1] - grid[i]) * gap[i] / (gap[i] - gap[i + 1])))
        above, below = (a, b) if gap[i + 1] > 0 else (b, a)
        out.append(
            f"The lines of {a} and {b} cross near {_percent(at)} kept (interpolated between measured "
            f"points): {above} is higher above it, {below} below it."
        )
    return out


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"
