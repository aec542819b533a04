"""What a run writes down about its model before the first step."""

from __future__ import annotations

from pathlib import Path

from analysis.engine.setup import Setup
from analysis.engine.sites import Site
from analysis.parts.gates import Gate
from analysis.store.layout import write_json


def describe_sites(path: Path, setup: Setup) -> None:
    """Writes ``sites.json``: what the masks belong to, the denominators, the metric and its floor."""
    data = setup.data
    write_json(
        path / "sites.json",
        {
            "sites": [_describe(s, g) for s, g in zip(setup.pruner.sites, setup.pruner.gates, strict=True)],
            "counts": {
                "prunable": setup.counts.prunable,
                "encoder": setup.counts.encoder,
                "model": setup.counts.model,
            },
            "kind": data.kind,
            "metric": data.metric,
            "floor": data.floor,
            "floor_note": data.floor_note,
            "label_names": list(data.label_names),
            "better": "higher",
        },
    )


def _describe(site: Site, gate: Gate) -> dict[str, object]:
    rows = gate.mask.shape[0]
    found = {
        "site": site.name,
        "role": site.role,
        "layer": site.layer,
        "rows": rows,
        "cols": gate.mask.numel() // rows,
        "heads": site.heads,
    }
    return {**found, "rank": gate.rank} if gate.rank else found
