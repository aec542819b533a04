"""What changed for the user: predictions of a run, and the examples on which two runs disagree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.frames.tables import UNREADABLE, log, table
from analysis.store import arrays

PREDICTIONS = {
    "row": "int32",
    "label": "str",
    "prediction": "str",
    "confidence": "float32",
    "keep": "float32",
    "split": "str",
}
CHANGES = {
    "row": "int32",
    "label": "str",
    "before": "str",
    "after": "str",
    "confidence_before": "float32",
    "confidence_after": "float32",
    "change": "str",
}
KINDS = ("still right", "became right", "became wrong", "wrong in another way", "still wrong")


def predictions(run_path: Path) -> pd.DataFrame:
    """Lists what a run predicted for every example; labels as texts, confidence and keep in [0, 1]."""
    path = Path(run_path) / "predictions.parquet"
    if not path.is_file():
        return table(PREDICTIONS)
    try:
        found = arrays.load_predictions(path)
    except UNREADABLE as error:
        log.info("%s cannot be read: %s", path, error)
        return table(PREDICTIONS)
    return table(
        PREDICTIONS, {**found, **{name: _words(found.get(name)) for name in ("label", "prediction")}}
    )


def changes(before: pd.DataFrame, after: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """Pairs the predictions of two runs, usually the dense and a pruned one, by the row of the example.

    Args:
        before: predictions of the first run.
        after: predictions of the second run.
        split: split of the data.

    Returns:
        one row an example that both have, with ``change`` one of ``KINDS``.
    """
    first = before[before["split"] == split].drop_duplicates("row", keep="last")
    second = after[after["split"] == split].drop_duplicates("row", keep="last")
    both = first.merge(second[["row", "prediction", "confidence"]], on="row", suffixes=("_before", "_after"))
    was = (both["prediction_before"] == both["label"]).to_numpy()
    now = (both["prediction_after"] == both["label"]).to_numpy()
    same = (both["prediction_before"] == both["prediction_after"]).to_numpy()
    change = np.select([was & now, ~was & now, was & ~now, ~same], KINDS[:4], KINDS[4])
    both = both.rename(columns={"prediction_before": "before", "prediction_after": "after"}).assign(
        change=change
    )
    return table(CHANGES, {name: both[name].to_numpy() for name in CHANGES})


def _words(values: object) -> list[str]:
    """Writes class numbers without a decimal point, so that 1 and 1.0 are the same class."""
    out = []
    for value in np.asarray(values if values is not None else [], dtype=object).tolist():
        whole = isinstance(value, float) and value.is_integer()
        out.append("" if value is None else str(int(value)) if whole else str(value))
    return out
