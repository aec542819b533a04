"""Masks and scores inside a checkpoint: as torch writes them, as the reference code does, as we do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from analysis import frames
from analysis.engine.inspect import plane
from analysis.engine.inspect.header import Entry
from analysis.engine.inspect.layouts import tensors
from analysis.engine.inspect.worker import inspect
from analysis.errors import ModelError
from tests.inspect import made


def stored(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    return path


def layer() -> nn.Module:
    torch.manual_seed(0)
    block = nn.Module()
    block.layers = nn.ModuleList([nn.ModuleDict({"fc1": nn.Linear(32, 64), "fc2": nn.Linear(64, 32)})])
    return block


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_masks_of_torch_prune_are_applied(tmp_path: Path, ending: str) -> None:
    model = layer()
    for name in ("fc1", "fc2"):
        prune.random_unstructured(model.layers[0][name], "weight", amount=0.75)
    path = tmp_path / f"m.{ending}"
    if ending == "pt":
        torch.save(model.state_dict(), path)
    else:
        stored(path, model.state_dict())
    inspect(path, tmp_path / "out")
    found = frames.tensors(tmp_path / "out").set_index("tensor")
    for name in ("fc1", "fc2"):
        row = found.loc[f"layers.0.{name}.weight_orig"]
        assert row["zeros"] == 1536 and row["masked"] and row["prunable"]
        assert found.loc[f"layers.0.{name}.weight_mask", "role"] == "mask"
        assert found.loc[f"layers.0.{name}.weight_mask", "weight"] == f"layers.0.{name}.weight"
    shares = frames.denominators(tmp_path / "out").set_index("denominator")
    assert (
        shares.loc["prunable weights", "total"] == 4096 and shares.loc["prunable weights", "sparsity"] == 0.75
    )
    assert shares.loc["whole model", "total"] == 4096 + 96  # masks are no parameters
    said = frames.findings(tmp_path / "out")["sentence"].tolist()
    assert any("2 masks are stored beside the weights" in s for s in said)
    assert any("masks, scores or repeated tensors among them" in s for s in said)


def test_parametrizations_are_the_weights_they_stand_for(tmp_path: Path) -> None:
    w = torch.randn(8, 8)
    mask = (torch.rand(8, 8) > 0.5).float()
    base = "encoder.layer.0.attention.self.query.parametrizations.weight"
    tensors = {f"{base}.original": w, f"{base}.0.mask": mask, f"{base}.0.scores": torch.randn(8, 8)}
    inspect(stored(tmp_path / "m.safetensors", tensors), tmp_path / "out")
    found = frames.tensors(tmp_path / "out").set_index("tensor")
    row = found.loc[f"{base}.original"]
    assert (row["role"], row["prunable"], row["zeros"]) == ("query", True, float((mask == 0).sum()))
    assert found.loc[f"{base}.0.mask", "role"] == "mask" and found.loc[f"{base}.0.scores", "role"] == "scores"
    named = found.loc[[f"{base}.0.mask", f"{base}.0.scores"], "weight"]
    assert (named == "encoder.layer.0.attention.self.query.weight").all()
    assert len(frames.scored(tmp_path / "out")) == 1


def reference(path: Path, blocks: bool = False) -> tuple[Path, np.ndarray, np.ndarray]:
    """The layout of the Movement Pruning code (scores of weights), or of block pruning."""
    rng = np.random.default_rng(0)
    w, s = rng.normal(0, 0.05, (64, 64)), rng.normal(0, 2, (2, 2) if blocks else (64, 64))
    base = "bert.encoder.layer.0.attention.self.query"
    where = f"{base}.mask_module.mask_scores" if blocks else f"{base}.mask_scores"
    made.write(path, {f"{base}.weight": made.floats("F32", w), where: made.floats("F32", s)})
    return path, w.astype("f4"), s.astype("f4")


@pytest.mark.parametrize("blocks", [False, True])
def test_scores_of_the_reference_code_are_recognised_and_can_be_cut(tmp_path: Path, blocks: bool) -> None:
    path, _, s = reference(tmp_path / "m.safetensors", blocks)
    out = tmp_path / "out"
    inspect(path, out)
    found = frames.tensors(out)
    assert found["role"].tolist() == ["query", "scores"] and frames.denominators(out)["total"].iloc[2] == 4096
    cut = frames.cut(out, 0.25, by="scores")
    assert cut["weights"].tolist() == [s.size] and cut["role"].tolist() == ["query"]
    assert cut["removed"].iloc[0] == pytest.approx(0.25 * s.size)
    low, high = cut.attrs["threshold"]
    assert low <= np.sort(s.ravel())[s.size // 4 - 1] <= high
    assert any("Scores are stored for 1 matrix" in t for t in frames.findings(out)["sentence"])


def test_the_plane_counts_every_weight_and_every_score(tmp_path: Path) -> None:
    path, w, s = reference(tmp_path / "m.safetensors")
    inspect(path, tmp_path / "out")
    plane.plane(tmp_path / "out", tmp_path / "plane")
    bins = frames.plane(tmp_path / "plane")
    assert bins["kept"].sum() == 4096 and bins["pruned"].sum() == 0
    inside = frames.box(tmp_path / "plane", "score", 0, 10, 0, 10)
    x0, _, y0, _ = inside.attrs["box"]
    assert inside["weights"].sum() == ((w >= x0) & (s >= y0)).sum()
    assert inside["layer"].tolist() == [0] and inside["role"].tolist() == ["query"]


def test_what_is_not_finite_has_no_place_in_the_plane(tmp_path: Path) -> None:
    base = "bert.encoder.layer.0.attention.self.query"
    w, s = np.full((4, 4), 0.5), np.full((4, 4), -2.0)
    w[0], s[1] = [np.nan, np.inf, -np.inf, np.nan], [np.nan, np.inf, -np.inf, np.nan]
    stored = {f"{base}.weight": made.floats("F32", w), f"{base}.mask_scores": made.floats("F32", s)}
    inspect(made.write(tmp_path / "m.safetensors", stored), tmp_path / "out")
    plane.plane(tmp_path / "out", tmp_path / "plane")
    bins = frames.plane(tmp_path / "plane")
    assert bins["kept"].sum() == 8 and bins["pruned"].sum() == 0
    assert frames.box(tmp_path / "plane", "score", 0, 10, -10, 0)["weights"].sum() == 8


def test_without_scores_of_weights_there_is_no_plane(tmp_path: Path) -> None:
    path, _, _ = reference(tmp_path / "m.safetensors", blocks=True)
    inspect(path, tmp_path / "out")
    with pytest.raises(ModelError, match="no plane"):
        plane.plane(tmp_path / "out", tmp_path / "plane")


@pytest.mark.parametrize(
    ("names", "codes"),
    [
        ({"q_proj.qweight": "I32", "q_proj.qzeros": "I32", "q_proj.scales": "F16", "q_proj.g_idx": "I32"}, 4),
        ({"q_proj.weight": "I8", "q_proj.SCB": "F32"}, 2),
        ({"q_proj.weight": "U8", "q_proj.weight.absmax": "F32", "q_proj.weight.quant_map": "F32"}, 3),
    ],
    ids=["gptq or awq", "eight bits", "four bits"],
)
def test_quantised_codes_are_named_and_not_read_as_weights(names: dict[str, str], codes: int) -> None:
    entries = [
        Entry(f"model.layers.0.self_attn.{n}", d, (8, 8) if "eight" in n else (8,), Path("x"), 0, 8)
        for n, d in names.items()
    ]
    found = tensors(entries, {})
    assert [t.role for t in found] == ["quantised"] * codes
    assert not any(t.analysed or t.prunable for t in found)
