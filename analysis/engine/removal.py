"""What a finished run does about its empty structures, or its products of two factors: it cuts them out, or
puts two layers in their place, checks that nothing changed, takes the time of both, and counts what was
computed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.engine import compact, compute, factors
from analysis.engine.evaluate import TARGETS
from analysis.engine.setup import Setup
from analysis.errors import ModelError

EXAMPLES = 32
ROUNDS = 5
FOLDER = "compact"


def finish(path: Path, s: Setup, tables: Mapping[str, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Removes what the units of a run allow to remove, and counts what the run computed.

    Args:
        path: the run's folder.
        s: the run, after its masks were made permanent and its model was exported.
        tables: name of an embedding that was trained as two factors, to its rank.

    Yields:
        kind and fields of each event to be written: "removal" where units can be removed, then "compute".
    """
    dense = compute.example_macs(s, s.model)
    if s.spec.parts.units.removable or tables:
        yield "removal", remove(path, s, tables)
    yield "compute", compute.of_run(s, dense, compute.example_macs(s, s.model))


def remove(path: Path, s: Setup, tables: Mapping[str, int]) -> dict[str, Any]:
    """Compacts the finalised model of a run in place and saves it under ``compact/``.

    Args:
        path: the run's folder.
        s: the run, after its masks were made permanent.
        tables: name of an embedding to be stored as two factors, to its rank.

    Returns:
        an event: parameters before and after, what is left of each layer, the largest difference between the
        outputs before and after on some development examples, and the seconds of one forward pass of
        them before and after, in fp32 on the run's own threads; ``ranks`` where matrices are products of
        two factors, ``embeddings`` where the table of words is; only ``reason`` where the model's family
        cannot be compacted.
    """
    batch = s.glance.batch(np.arange(min(EXAMPLES, len(s.glance))))
    inputs = {k: v.to(s.device) for k, v in batch.items() if k not in TARGETS}
    s.model.eval()
    before, slow = _answer(s, inputs)
    parameters = sum(p.numel() for p in s.model.parameters())
    ranks = factors.ranks(s.pruner)
    try:
        removable = s.spec.parts.units.removable and not ranks
        layers = compact.compact(s.model) if removable else []
        factors.split(s.model, {**ranks, **tables})
    except ModelError as error:
        return {"reason": str(error)}
    after, fast = _answer(s, inputs)
    compact.save(path / FOLDER, s.model, layers, {**ranks, **tables})
    return {
        **({"ranks": factors.describe(s.pruner)} if ranks else {}),
        **({"embeddings": dict(tables)} if tables else {}),
        "layers": [
            {
                "layer": la.layer,
                "heads": len(la.heads),
                "heads_before": la.heads_before,
                "query_dims": [len(d) for d in la.query_dims],
                "value_dims": [len(d) for d in la.value_dims],
                "neurons": len(la.neurons),
                "neurons_before": la.neurons_before,
                "filters": sum(map(len, la.filters)),
                "filters_before": sum(la.filters_before),
            }
            for la in layers
        ],
        "parameters_before": parameters,
        "parameters": sum(p.numel() for p in s.model.parameters()),
        "difference": float((after - before).abs().max()),
        "examples": len(after),
        "seconds_before": slow,
        "seconds": fast,
        "threads": torch.get_num_threads(),
        "device": str(s.device),
    }


@torch.no_grad()
def _answer(s: Setup, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, float]:
    """The outputs on a batch, and the median time of a forward pass over it."""
    out = s.model(**inputs)
    logits = torch.cat(
        [out[name].float() for name in ("logits", "start_logits", "end_logits") if name in out], -1
    )
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        s.model(**inputs)
        if s.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return logits, statistics.median(times)
