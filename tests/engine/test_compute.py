"""Multiply-adds: the tables of BERT-base and ResNet-50, what shrinks them, and what a run adds up to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn

from analysis.engine import compact, compute
from analysis.engine.chains import find_links
from analysis.engine.compact import Layer
from analysis.engine.splits import Split
from analysis.parts.schedules import Cubic, OneShot, settled


def bert(heads: int, neurons: int) -> nn.Module:
    with torch.device("meta"):
        model = hf.BertModel(hf.BertConfig(), add_pooling_layer=False).eval()
    layers = [Layer(i, tuple(range(heads)), 12, tuple(range(neurons)), 3072) for i in range(12)]
    compact.shrink(model, layers)
    return model


@pytest.mark.parametrize(
    ("heads", "neurons", "millions", "giga"),
    [
        (12, 3072, 85.054, 11.174),
        (9, 2304, 63.805, 8.380),
        (6, 1536, 42.555, 5.587),
        (3, 768, 21.305, 2.793),
        (12, 1536, 56.724, 7.550),
    ],
)
def test_bert_base_at_128_tokens(heads: int, neurons: int, millions: float, giga: float) -> None:
    model = bert(heads, neurons)
    encoder = sum(p.numel() for p in model.encoder.parameters())
    assert encoder / 1e6 == pytest.approx(millions, abs=6e-4)
    inputs = {"input_ids": torch.zeros(1, 128, dtype=torch.long, device="meta")}
    macs = compute.forward_macs(model, inputs)
    assert macs / 1e9 == pytest.approx(giga, abs=6e-4)
    assert model.config._attn_implementation == "sdpa"  # as it was before
    if (heads, neurons) == (12, 3072):
        assert macs == 11_173_625_856


def resnet(embedding: int = 64, sizes: tuple[int, ...] = (256, 512, 1024, 2048)) -> nn.Module:
    config = hf.ResNetConfig(num_labels=1000, embedding_size=embedding, hidden_sizes=list(sizes))
    with torch.device("meta"):
        return hf.ResNetForImageClassification(config).eval()


def narrowed(keep: float) -> nn.Module:
    """ResNet-50 with a share of its inner widths."""
    model = resnet()
    wide = [
        [model.get_submodule(k.writer).out_channels for k in find_links(model)[i : i + 2]]
        for i in range(0, 32, 2)
    ]
    layers = [
        Layer(i, filters=tuple(tuple(range(round(keep * n))) for n in pair), filters_before=tuple(pair))
        for i, pair in enumerate(wide)
    ]
    compact.shrink(model, layers)
    return model


def size(model: nn.Module) -> tuple[float, float]:
    pixels = {"pixel_values": torch.zeros(1, 3, 224, 224, device="meta")}
    parameters = sum(p.numel() for p in model.parameters())
    return parameters / 1e6, compute.forward_macs(model, pixels) / 1e9


def test_resnet_50_with_fewer_inner_filters() -> None:
    table = {1: (25.557, 4.089), 0.75: (18.262, 2.840), 0.5: (12.382, 1.822), 0.25: (7.916, 1.035)}
    found = {keep: size(narrowed(keep)) for keep in table}
    for keep, wanted in table.items():
        assert found[keep] == pytest.approx(wanted, abs=6e-4)
    shares = [found[k][1] / found[1][1] for k in (0.75, 0.5, 0.25)]
    assert shares == pytest.approx([0.695, 0.446, 0.253], abs=6e-4)
    assert sum(p.numel() for p in resnet().parameters()) == 25_557_032


def test_resnet_50_with_every_width_narrowed_is_another_network() -> None:
    table = {0.75: (14.772, 2.323), 0.5: (6.918, 1.052), 0.25: (1.994, 0.278)}
    for keep, wanted in table.items():
        sizes = tuple(round(keep * n) for n in (256, 512, 1024, 2048))
        assert size(resnet(round(64 * keep), sizes)) == pytest.approx(wanted, abs=6e-4)


def test_a_run_is_steps_times_batch_times_three_forward_passes() -> None:
    run = compute.total_macs(steps=100, batch=32, dense=1000, removed=1000, moment=np.inf)
    assert run == {"macs_forward": 1000, "macs_step": 96_000, "macs_run": 9_600_000}
    twice = compute.total_macs(steps=200, batch=32, dense=1000, removed=1000, moment=np.inf)
    assert twice["macs_run"] == 2 * run["macs_run"]
    taught = compute.total_macs(100, 32, 1000, 1000, np.inf, teacher=500)
    assert taught["macs_run"] == 100 * 32 * 3500


def test_only_masks_that_stand_save_anything() -> None:
    at_once = compute.total_macs(100, 32, 1000, 400, settled(OneShot(at=0, frozen=True)))
    assert at_once["macs_run"] == 100 * 32 * 3 * 400 and at_once["macs_forward"] == 400
    later = compute.total_macs(100, 32, 1000, 400, settled(OneShot(at=0.25, frozen=True)))
    assert later["macs_run"] == 32 * 3 * (25 * 1000 + 75 * 400)
    for moving in (Cubic(), OneShot(at=0)):
        never = compute.total_macs(100, 32, 1000, 400, settled(moving))
        assert never["macs_run"] == 100 * 32 * 3 * 1000 and never["macs_forward"] == 1000


class Sentences(Split):
    """Inputs of given lengths."""

    def __init__(self, lengths: list[int]) -> None:
        self._lengths = np.array(lengths, dtype=np.int32)

    @property
    def lengths(self) -> np.ndarray:
        return self._lengths

    def batch(self, indices: np.ndarray) -> dict[str, Any]:
        width = int(self._lengths[indices].max())
        return {"input_ids": torch.ones(len(indices), width, dtype=torch.long), "labels": torch.zeros(1)}


def test_an_average_example_is_as_long_as_the_batches_are_wide() -> None:
    fields, words = compute.average_inputs(Sentences([4] * 16 + [9, 12]), batch=100, seed=0)
    assert words == {"tokens": 12} and set(fields) == {"input_ids"}
    fields, words = compute.average_inputs(Sentences([4, 4, 4, 10]), batch=1, seed=0)
    assert words == {"tokens": 6} and fields["input_ids"].shape == (1, 6)  # 22 / 4, to even
