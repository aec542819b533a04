"""What an opened model is worth and what one-shot cuts cost: tidy frames of a probe, and its sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.tables import UNREADABLE, log, number, read_json, table
from analysis.store import arrays

POINTS = {
    "keep": "float64",
    "sparsity": "float64",
    "by": "str",
    "scope": "str",
    "state": "str",
    "value": "float64",
    "error": "float64",
    "rows": "int64",
    "seconds": "float64",
}
LATENCY = {
    "variant": "str",
    "keep": "float64",
    "by": "str",
    "scope": "str",
    "seconds": "float64",
    "low": "float64",
    "high": "float64",
    "ratio": "float64",
    "rounds": "float64",
    "examples": "int64",
    "shape": "str",
    "parameters": "float64",
    "difference": "float64",
    "kernel": "str",
    "reason": "str",
}
VERIFIED = "verified"
SCOPES = {"global": "ranked over all matrices at once", "local": "ranked inside each matrix"}
RANKS = {"magnitude": "magnitude", "scores": "stored score"}
SHARES = ("accuracy", "f1", "exact_match")  # metrics that read well in per cent; correlations do not
SLACK = 0.01  # a loss that a reader would accept without asking


def probe_about(folder: Path) -> dict[str, Any]:
    """Reads what a probe measures: model, task, metric, rows, floor; an empty dictionary before it knows."""
    return read_json(Path(folder) / "about.json")


def probe_points(folder: Path) -> pd.DataFrame:
    """Lists the measured points of a probe.

    Args:
        folder: folder of the probe.

    Returns:
        one row a point and state ("estimated" on some rows, "verified" on all), highest keep first; keep is
        what was asked, sparsity the share of prunable weights that is exactly zero, by and scope are "" for
        the model as it was opened.
    """
    found = _columns(Path(folder) / "points.parquet")
    prunable = number(probe_about(folder).get("prunable"))
    frame = table(POINTS, found)
    zeros = table({"zeros": "float64"}, found)["zeros"]
    frame["sparsity"] = zeros / prunable if prunable > 0 else np.nan
    order = ["by", "scope", "keep", "state"]
    return frame.sort_values(order, ascending=[True, True, False, True], kind="stable", ignore_index=True)


def probe_best(points: pd.DataFrame) -> pd.DataFrame:
    """Keeps one row a point: the verified one where there is one, else the estimate."""
    best = points.sort_values("state", key=lambda state: state != VERIFIED, kind="stable")
    return best.drop_duplicates(["by", "scope", "keep"]).sort_index(ignore_index=True)


def probe_latency(folder: Path) -> pd.DataFrame:
    """Lists the forms of the model that were timed, with what multiplies them, or why there is no such
    form.
    """
    return table(LATENCY, _columns(Path(folder) / "latency.parquet"))


def _columns(path: Path) -> dict[str, Any]:
    try:
        return dict(arrays.load_table(path))
    except UNREADABLE as error:
        log.info("%s cannot be read: %s", path, error)
        return {}


def probe_line(by: str, scope: str) -> str:
    """What a line of points is called: how the cut was chosen."""
    return f"by {RANKS.get(by, by)}, {SCOPES.get(scope, scope)}" if by else "as opened"


def probe_sentences(folder: Path) -> list[str]:
    """Says what a model is worth and what the cuts cost so far; nothing before the first point."""
    about, points = probe_about(folder), probe_points(folder)
    best = probe_best(points)
    dense = best[best["by"] == ""]
    if dense.empty or not about:
        return []
    metric = str(about.get("metric", "the metric"))
    said = [_dense(about, dense.iloc[0], metric)]
    for (by, scope), line in best[best["by"] != ""].groupby(["by", "scope"], sort=True):
        said.append(_line(str(by), str(scope), line, points, metric))
        said += _affordable(line, dense.iloc[0], metric)
    return said + _opened(dense.iloc[0])


def _shown(value: float, metric: str) -> str:
    if not np.isfinite(value):
        return "no finite number"
    return f"{100 * value:.1f} %" if metric in SHARES else f"{value:.3f}"


def _give(row: pd.Series, metric: str) -> str:
    """How far an estimate may be off, in the unit of the value; "" where that is not known."""
    error = float(row["error"])
    return f" ± {100 * error:.1f}" if np.isfinite(error) and metric in SHARES else ""


def _dense(about: dict[str, Any], row: pd.Series, metric: str) -> str:
    value, floor = _shown(float(row["value"]), metric), number(about.get("floor"))
    rows, split = int(row["rows"]), about.get("split", "test")
    if row["state"] != VERIFIED:
        return f"As opened, {metric} is about {value}{_give(row, metric)} (estimated on {rows:,} rows)."
    said = f"As opened, {metric} is {value} on all {rows:,} rows of the {split} split"
    if not np.isfinite(floor):
        return f"{said}."
    said += f"; the floor, {about.get('floor_note', 'learnt nothing')}, is {_shown(floor, metric)}."
    if float(row["value"]) < floor - 2 * np.nan_to_num(float(row["error"])):
        said += " Below the floor: the model may number its labels otherwise than the data does."
    return said


def _line(by: str, scope: str, line: pd.DataFrame, points: pd.DataFrame, metric: str) -> str:
    told = []
    for _, row in line.sort_values("keep", ascending=False).iterrows():
        kept, value = f"{100 * row['keep']:.3g} % kept", _shown(float(row["value"]), metric)
        same = (points["by"] == by) & (points["scope"] == scope) & (points["keep"] == row["keep"])
        early = points[same & (points["state"] != VERIFIED)]
        if row["state"] != VERIFIED:
            told.append(f"{kept} about {value}{_give(row, metric)} (estimated on {int(row['rows']):,} rows)")
        elif early.empty:
            told.append(f"{kept} {value}")
        else:
            guess = early.iloc[0]
            about = f"{_shown(float(guess['value']), metric)}{_give(guess, metric)}"
            told.append(f"{kept} {value} (estimated {about} on {int(guess['rows']):,})")
    return f"Cut once {probe_line(by, scope)}, without training after: {'; '.join(told)}."


def _affordable(line: pd.DataFrame, dense: pd.Series, metric: str) -> list[str]:
    sure = line[line["state"] == VERIFIED]
    if metric not in SHARES or dense["state"] != VERIFIED or sure.empty:
        return []
    good = sure[sure["value"] >= float(dense["value"]) - SLACK - 1e-12]
    if good.empty:
        return [f"Every cut tried costs more than {100 * SLACK:g} point."]
    keep = float(good["keep"].min())
    return [f"The furthest of them that costs at most {100 * SLACK:g} point keeps {100 * keep:.3g} %."]


def _opened(dense: pd.Series) -> list[str]:
    share = float(dense["sparsity"])
    if not share > SLACK:
        return []
    return [
        f"{100 * share:.3g} % of its prunable weights are already zero as opened: by magnitude, to keep more "
        f"than {100 * (1 - share):.3g} % cuts nothing."
    ]


def probe_speed(folder: Path) -> list[str]:
    """Says how long the forms of the model take, and why some are missing; nothing before they are timed."""
    times, said = probe_latency(folder), []
    for _, row in times.iterrows():
        name, ratio = str(row["variant"]), float(row["ratio"])
        if name == "dense":
            said.append(
                f"Dense, a forward pass over {int(row['examples'])} examples ({row['shape']}) takes "
                f"{1000 * float(row['seconds']):.3g} ms ({row['kernel'].removeprefix('dense ')})."
            )
        elif row["reason"]:
            said.append(f"{name[:1].upper()}{name[1:]}: not timed; {row['reason']}")
        elif name == "masked":
            said.append(
                f"Masked to {100 * float(row['keep']):.3g} %, it takes {ratio:.2f} of the dense time: the "
                "kernel is the same and does not know which numbers are zero."
            )
        else:
            same = "the model as opened" if name.endswith("opened") else "the masked model"
            beside = " beside their places" if name == "CSR" else ""
            said.append(
                f"{name[:1].upper()}{name[1:]}, it takes {ratio:.2f} of the dense time with "
                f"{int(row['parameters']):,} numbers stored{beside}; outputs differ from those of {same} by "
                f"at most {float(row['difference']):.1g}."
            )
    return said
