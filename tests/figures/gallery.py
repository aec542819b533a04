"""Every figure with frames that are empty, tiny, damaged, large or strangely named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import (
    batches,
    checkpoint,
    compare,
    compare_zeros,
    curves,
    front,
    layers,
    live,
    overlap,
    probe,
    scatter,
    schedule,
    tensors,
)

CASES = ("empty", "one row", "NaN", "many", "unicode names")
ROWS = {"empty": 0, "one row": 1, "NaN": 6, "many": 3000, "unicode names": 12}
NAMES = (
    "Zürich 權重",
    "<b onclick=alert(1)>",
    "\u202egnp.exe",
    "null\0byte",
    "x" * 400,
    "🙂",
    "",
    "a",
    "a",
    "$x$",
    "%{x}",
    "&amp;",
)


class Maker:
    """Builds columns for one case: numbers (NaN and infinities where asked), whole numbers, and names."""

    def __init__(self, case: str) -> None:
        self.case, self.n = case, ROWS[case]
        self.rng = np.random.default_rng(3)

    def real(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        values = self.rng.uniform(low, high, self.n)
        if self.case == "NaN":
            values[:] = [np.nan, np.inf, -np.inf, np.nan, low, np.nan]
        return values

    def whole(self, high: int = 1000) -> np.ndarray:
        return self.rng.integers(0, high, self.n)

    def names(self, *usual: str) -> pd.Series:
        pool = NAMES if self.case == "unicode names" else usual
        return pd.Series([pool[i % len(pool)] for i in range(self.n)], dtype="str")

    def flags(self) -> np.ndarray:
        return self.rng.random(self.n) < 0.5

    def frame(self, **columns: Any) -> pd.DataFrame:
        return pd.DataFrame({k: pd.Series(v) for k, v in columns.items()}).reset_index(drop=True)


def plane(m: Maker) -> pd.DataFrame:
    at = np.arange(m.n)
    x, y = at % 55 / 50 - 0.5, at // 55 / 5.0
    if m.case == "NaN":
        x = np.where(at == 1, np.nan, x)
    width = {"dx": np.full(m.n, 0.02), "dy": np.full(m.n, 0.2)}
    return m.frame(x=x, y=y, **width, kept=m.whole(10**6), pruned=m.whole(10**6))


def points(m: Maker) -> pd.DataFrame:
    return m.frame(w0=m.real(-1), w=m.real(-1), score=m.real(-5, 5), kept=m.flags())


def grown(m: Maker) -> pd.DataFrame:
    return points(m).assign(growth=m.real(-0.1, 0.1))


def agreement(m: Maker) -> pd.DataFrame:
    return m.frame(points=m.whole(), pearson=m.real(-1), spearman=m.real(-1)).iloc[:1]


def sites(m: Maker) -> pd.DataFrame:
    weights = m.whole(1000) + 1
    where = {"site": m.names(*(f"s{i}" for i in range(500))), "role": m.names("query", "ffn in", "other")}
    kept = np.floor(weights * m.real())
    return m.frame(**where, layer=m.whole(300) - 1, weights=weights, kept=kept, keep=kept / weights)


def structured(m: Maker) -> pd.DataFrame:
    counts = {f"{k}{e}": m.real(0, 9) for k in ("rows", "cols", "heads") for e in ("", "_empty")}
    return sites(m).assign(**counts)


def overlaps(m: Maker) -> pd.DataFrame:
    kept = {k: m.whole() for k in ("kept_a", "kept_b", "both")}
    return sites(m).assign(**kept, jaccard=m.real(), expected=m.real())


def pairs(m: Maker) -> pd.DataFrame:
    names = m.names(*(f"run {i}" for i in range(60)))
    return m.frame(a=names, b=names[::-1].to_numpy(), jaccard=m.real(), expected=m.real())


def lines(m: Maker) -> pd.DataFrame:
    mean = m.real()
    where = {"recipe": m.names("movement", "magnitude"), "lr": m.frame(v=[1e-3] * m.n).get("v")}
    return m.frame(**where, keep=m.real(0.01), mean=mean, low=mean - 0.1, high=mean + 0.1, runs=m.whole(4))


def singles(m: Maker) -> pd.DataFrame:
    value = {"keep_prunable": m.real(0.01), "value": m.real(), "seed": m.whole(9), "recorded": m.flags()}
    return m.frame(recipe=m.names("movement", "magnitude"), **value)


def printed(m: Maker) -> pd.DataFrame:
    return m.frame(recipe=m.names("movement"), keep=m.real(0.01), value=m.real(), source=m.names("a paper"))


def tried(m: Maker) -> pd.DataFrame:
    value = {"macs": m.real(1e9, 1e15), "test": m.real(), "validation": m.real(), "runs": m.whole(4)}
    more = {"keep": m.real(), "lr": m.real(), "front": m.flags()}
    return m.frame(recipe=m.names("movement", "compute_optimal"), **value, **more)


def running(m: Maker) -> pd.DataFrame:
    rows = {"run": m.names("one", "two"), "progress": m.real(), "value": m.real(), "floor": np.full(m.n, 0.5)}
    keeps = {
        "keep": m.real(),
        "kept": m.real(),
        "flips": m.real(),
        "lr": m.real(),
        "penalty_weight": m.real(),
    }
    kinds = {"term": ["loss"] * m.n, "split": ["validation"] * m.n, "metric": ["accuracy"] * m.n}
    return m.frame(**rows, **keeps, **kinds, cut=np.where(m.flags(), "current", "final"))


def blocks(m: Maker) -> pd.DataFrame:
    at = np.arange(m.n)
    return m.frame(row=at // 55 * 4, col=at % 55 * 4, keep=m.real())


def files(m: Maker) -> pd.DataFrame:
    numel = m.whole(1000) + 1
    rest = {"zeros": np.floor(numel * m.real()), "prunable": m.flags(), "analysed": m.flags()}
    return m.frame(tensor=m.names(*(f"t{i}" for i in range(500))), numel=numel, **rest)


def far(m: Maker) -> pd.DataFrame:
    where = {"layer": m.whole(300) - 1, "role": m.names("query", "ffn in", "bias"), "weights": m.whole()}
    return m.frame(**where, relative=m.real(), cosine=m.real(-1), flipped=m.real())


def two(m: Maker) -> pd.DataFrame:
    at = np.arange(m.n)
    bins = {"a_bin": at % 161 - 80, "b_bin": at // 161 - 9}
    a = np.sign(bins["a_bin"]) * 2.0 ** (np.abs(bins["a_bin"]) / 4 - 16)
    a = np.where(at == 1, np.nan, a) if m.case == "NaN" else a
    b = np.sign(bins["b_bin"]) * 2.0 ** (np.abs(bins["b_bin"]) / 4 - 16)
    return m.frame(**bins, a=a, b=b, count=m.whole(10**6))


def tenths(m: Maker) -> pd.DataFrame:
    kept = {"weights": m.whole(), "kept": m.real(0, 9), "share": m.real(), "chance": m.real()}
    return m.frame(tenth=np.arange(m.n) + 1, low=m.real(), high=m.real(), **kept)


def changed(m: Maker) -> pd.DataFrame:
    counts = {"compared": m.whole(1000) + 1, "zeros_gained": m.real(0, 9), "zeros_lost": m.real(0, 9)}
    return m.frame(tensor=m.names(*(f"t{i}" for i in range(500))), **counts)


def bins(m: Maker) -> pd.DataFrame:
    low = np.arange(m.n) / 10.0
    if m.n > 2:
        low[0] = -np.inf
    kinds = {k: m.whole() for k in ("kept", "pruned", "count")}
    return m.frame(low=low, high=np.arange(1, m.n + 1) / 10.0, **kinds)


def scheduled(m: Maker) -> pd.DataFrame:
    return m.frame(progress=m.real(), curve=m.names("keep", "lr", "penalty"), value=m.real())


def sizes(m: Maker) -> pd.DataFrame:
    low = m.real(1e-6, 1)
    return pd.DataFrame(
        {"role": m.names("query", "ffn in"), "low": low, "high": 1.3 * low, "share": m.real()}
    )


def units(m: Maker) -> pd.DataFrame:
    columns = {"layer": m.whole(12), "label": m.names("0", "1"), "kind": m.names("heads", "neurons")}
    return pd.DataFrame({**columns, "units": 1 + m.whole(), "empty": m.real(0, 1)})


def stored(m: Maker) -> pd.DataFrame:
    return pd.DataFrame({"form": m.names("as stored", "without"), "bytes": m.real(0, 1e9)})


def tiles(m: Maker) -> pd.DataFrame:
    return pd.DataFrame({"row": m.whole(60), "col": m.whole(60), "keep": m.real(), "size": m.real(-1, 1)})


def shares(m: Maker) -> pd.DataFrame:
    return m.frame(denominator=m.names("encoder"), total=m.whole(), zeros=m.whole(), sparsity=m.real()).iloc[
        :8
    ]


def spent(m: Maker, metric: str = "accuracy") -> pd.DataFrame:
    mean = m.real()
    where = {"line": m.names("AdamW", "AdamW, past adam look-ahead of 0.5"), "batch": 32 * (1 + m.whole(6))}
    band = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "runs": m.whole(4)}
    return m.frame(**where, step=m.whole(), evaluations=m.real(0, 1e6), **band, metric=[metric] * m.n)


def measured(m: Maker) -> pd.DataFrame:
    how = {"by": m.names("magnitude", "", "scores"), "scope": m.names("global", "", "local")}
    value = {"keep": m.real(0.01), "value": m.real(), "error": m.real(0, 0.1), "sparsity": m.real()}
    return m.frame(**value, **how, state=np.where(m.flags(), "estimated", "verified"), rows=m.whole())


def timed(m: Maker) -> pd.DataFrame:
    middle = m.real(0.001)
    spread = {"seconds": middle, "low": middle * 0.9, "high": middle * 1.1, "ratio": m.real()}
    return m.frame(variant=m.names("dense", "masked"), **spread, kernel=m.names("MKL"))


FIGURES: dict[str, Callable[[Maker, bool], go.Figure]] = {
    "weight_score": lambda m, d: scatter.weight_score(
        plane(m), points(m), threshold=[0.1, 0.2, float("nan")], title=NAMES[1], dark=d
    ),
    "weight_score kept": lambda m, d: scatter.weight_score(plane(m), points(m), show="kept", dark=d),
    "weight_score pruned": lambda m, d: scatter.weight_score(plane(m), points(m), show="pruned", dark=d),
    "start_final": lambda m, d: scatter.start_final(plane(m), points(m), dark=d),
    "growth": lambda m, d: scatter.growth(grown(m), agreement(m), dark=d),
    "growth kept": lambda m, d: scatter.growth(grown(m), agreement(m), show="kept", title=NAMES[1], dark=d),
    "heat": lambda m, d: layers.heat(sites(m), dark=d),
    "heat sparsity": lambda m, d: layers.heat(sites(m), "sparsity", dark=d),
    "bars": lambda m, d: layers.bars({"movement": sites(m), NAMES[0]: sites(m)}, dark=d),
    "bars by site": lambda m, d: layers.bars({"x": sites(m)}, "sparsity", by="site", dark=d),
    "structure": lambda m, d: layers.structure(structured(m), dark=d),
    "mask_picture": lambda m, d: layers.mask_picture(blocks(m), heads=4, dark=d),
    "overlap": lambda m, d: overlap.bars(overlaps(m), dark=d),
    "matrix": lambda m, d: overlap.matrix(pairs(m), dark=d),
    "matrix excess": lambda m, d: overlap.matrix(pairs(m), excess=True, dark=d),
    "ranks": lambda m, d: overlap.ranks(overlaps(m).assign(points=3, spearman=m.real(-1)), dark=d),
    "accuracy_keep": lambda m, d: curves.accuracy_keep(
        lines(m), singles(m), metric="test accuracy", floor=0.5, dense=0.9, published=printed(m), dark=d
    ),
    "accuracy_keep panels": lambda m, d: curves.accuracy_keep(
        lines(m).assign(lr=np.arange(m.n) % 3 * 1.0),
        None,
        facet="lr",
        log=False,
        title="x",
        floor=0.5,
        dark=d,
    ),
    "accuracy_keep other settings": lambda m, d: curves.accuracy_keep(
        lines(m).assign(variant=m.names("", "other settings (ab12cd34)")), singles(m), dark=d
    ),
    "accuracy_compute": lambda m, d: front.accuracy_compute(tried(m), title=NAMES[1], floor=0.5, dark=d),
    "large_batch": lambda m, d: batches.large_batch(spent(m), floor=0.5, dark=d),
    "large_batch loss": lambda m, d: batches.large_batch(
        spent(m, "training loss").assign(batch=32), log=True, title=NAMES[1], dark=d
    ),
    "loss": lambda m, d: live.loss(running(m), smooth=3, log=True, dark=d),
    "metric": lambda m, d: live.metric(running(m), dark=d),
    "keep": lambda m, d: live.keep(running(m), recipes={"one": "movement"}, dark=d),
    "flips": lambda m, d: live.flips(running(m), dark=d),
    "schedule": lambda m, d: schedule.schedule(scheduled(m), title="x", dark=d),
    "tensor sparsity": lambda m, d: tensors.sparsity(files(m), dark=d),
    "tensor values": lambda m, d: tensors.values(bins(m), name=NAMES[1], log=True, dark=d),
    "distance": lambda m, d: compare.distance(far(m), title=NAMES[1], dark=d),
    "distance cosine": lambda m, d: compare.distance(far(m), "cosine", dark=d),
    "two values": lambda m, d: compare.values(two(m), dark=d),
    "kept by size": lambda m, d: compare_zeros.kept(tenths(m), dark=d),
    "zeros changed": lambda m, d: compare_zeros.zeros(changed(m), dark=d),
    "cost": lambda m, d: probe.cost(measured(m), floor=0.5, title=NAMES[1], dark=d),
    "latency": lambda m, d: probe.latency(timed(m), dark=d),
    "denominators": lambda m, d: tensors.denominators(shares(m), dark=d),
    "sizes": lambda m, d: checkpoint.sizes(sizes(m), (0.01, 0.02), dark=d),
    "heads and neurons": lambda m, d: checkpoint.units(units(m), title=NAMES[1], dark=d),
    "storage": lambda m, d: checkpoint.storage(stored(m), dark=d),
    "values of a matrix": lambda m, d: layers.mask_picture(tiles(m), value="size", dark=d),
}
