"""What was cut out of a finished model: heads, neurons and filters left of each layer, or matrices that two
factors stand for, and what it changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.frames.tables import number, read_events, table

REMOVED = {
    "layer": "int64",
    "heads": "int64",
    "heads_before": "int64",
    "neurons": "int64",
    "neurons_before": "int64",
    "filters": "int64",
    "filters_before": "int64",
}


def removed(run_path: Path) -> pd.DataFrame:
    """Lists what is left of each layer after physical removal; no rows where nothing was removed."""
    layers = _event(run_path).get("layers")
    rows = layers if isinstance(layers, list) else []
    return table(REMOVED, [row for row in rows if isinstance(row, dict)])


def removal_sentence(run_path: Path) -> str:
    """Says what physical removal took and changed, as the run measured it; "" where there was none."""
    event = _event(run_path)
    if isinstance(event.get("reason"), str):
        return f"Nothing was removed: {event['reason']}"
    before, after = number(event.get("parameters_before")), number(event.get("parameters"))
    if not before > 0 or not after > 0:
        return ""
    frame = removed(run_path)
    parts = [
        f"{int((frame[f'{kind}_before'] - frame[kind]).sum()):,} of {total:,} {kind}"
        for kind in ("heads", "neurons", "filters")
        if (total := int(frame[f"{kind}_before"].sum()))
    ]
    ranks, tables = event.get("ranks"), event.get("embeddings")
    done = [f"cut out of the model: {' and '.join(parts)}"] if parts else []
    if isinstance(ranks, list) and ranks:
        done = [f"two thin layers in place of each of {len(ranks)} matrices"]
    if isinstance(tables, dict) and tables:
        done.append(f"the table of words in two factors of rank {', '.join(map(str, tables.values()))}")
    what = ", ".join(done)
    ratio = number(event.get("seconds")) / max(number(event.get("seconds_before")), 1e-9)
    return (
        f"{what[:1].upper()}{what[1:]}; {int(after):,} of {int(before):,} parameters are "
        f"left. Outputs differ by at most {number(event.get('difference')):.1g}. A forward pass over "
        f"{int(number(event.get('examples')))} examples took {ratio:.2f} of the time it took before (on "
        f"{event.get('device')}, {int(number(event.get('threads')))} thread(s), dense kernels in fp32)."
    )


def _event(run_path: Path) -> dict[str, Any]:
    events = read_events(run_path, "removal")
    return events[-1] if events else {}
