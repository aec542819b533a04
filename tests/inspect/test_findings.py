"""The sentences on a checkpoint, each number beside the slow computation it stands for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from analysis import frames
from analysis.cli import main
from analysis.engine.inspect.worker import inspect
from analysis.store import arrays
from tests.inspect import made

QUERY, VALUE = "encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.value"


def said(folder: Path, tensors: dict[str, np.ndarray], dtype: str = "F32") -> str:
    made.write(folder / "m.safetensors", {k: made.floats(dtype, v) for k, v in tensors.items()})
    inspect(folder / "m.safetensors", folder / "out")
    return "\n".join(frames.findings(folder / "out")["sentence"])


def dense(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, shape)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("none", "Dense: none of the 8,192 prunable weights is zero."),
        ("rows", "Structured by rows, 25.0 % of 8,192"),
        ("columns", "Structured by columns, 25.0 % of 8,192"),
        ("both", "Structured by rows and columns, 43.8 % of 8,192"),
        ("blocks", "In blocks of 32 × 32, 50.0 % of 8,192"),
        ("2:4", "2:4 along the rows, 50.0 % of 8,192"),
        ("weights", "Unstructured, "),
        ("whole", "Whole matrices removed, 50.0 % of 8,192"),
        ("few", "As good as dense: 3 of 8,192 prunable weights are zero."),
    ],
)
def test_the_structure_of_the_zeros_has_a_name(how: str, words: str, tmp_path: Path) -> None:
    found = {f"{QUERY}.weight": dense(64, 64), f"{VALUE}.weight": -dense(64, 64)}
    for i, w in enumerate(found.values()):
        if how in ("rows", "both"):
            w[::4] = 0
        if how in ("columns", "both"):
            w[:, 1::4] = 0
        if how == "blocks":
            w[:32, :32] = w[32:, 32:] = 0
        if how == "2:4":
            w[::2, 0::4] = w[::2, 1::4] = w[1::2, 2::4] = w[1::2, 3::4] = 0
        if how == "weights":
            w[np.random.default_rng(i).random(w.shape) > 0.4] = 0
        if how == "whole" and i:
            w[:] = 0
        if how == "few" and i:
            w[0, :3] = 0
    text = said(tmp_path, found)
    assert words in text
    if how == "weights":
        share = np.mean([(w == 0).mean() for w in found.values()])
        assert f"Unstructured, {100 * share:.1f} % of 8,192 prunable weights are zero" in text


@pytest.mark.parametrize("sparsity", [0.9, 0.97, 0.99])
def test_zeros_by_lot_keep_to_no_pattern_whatever_their_share(sparsity: float, tmp_path: Path) -> None:
    w = dense(256, 256)
    w[np.random.default_rng(5).random(w.shape) < sparsity] = 0
    assert f"Unstructured, {100 * (w == 0).mean():.1f} %" in said(tmp_path, {f"{QUERY}.weight": w})
    found = frames.patterns(tmp_path / "out")
    assert not found["pattern"].str.contains(":").any()


def test_a_corner_smaller_than_a_block_is_no_block(tmp_path: Path) -> None:
    w = dense(72, 72)
    w.ravel()[np.random.default_rng(3).choice(72 * 72, 900, replace=False)] = 0
    w[64:, 64:] = 0
    assert "Unstructured" in said(tmp_path, {f"{QUERY}.weight": w})


def test_masks_scores_and_repeats_are_saved_once(tmp_path: Path) -> None:
    w = dense(200, 200)
    mask = np.random.default_rng(1).random(w.shape) > 0.9
    one = {
        f"{QUERY}.weight_orig": w,
        f"{QUERY}.weight_mask": mask.astype(float),
        f"{QUERY}.mask_scores": dense(200, 200) * 2,
    }
    text = said(tmp_path, one)
    size = (tmp_path / "m.safetensors").stat().st_size
    left = size - 2 * 4 * w.size - 4 * w.size + w.size / 8 + 4 * mask.sum()
    assert (
        f"takes {size / 1e6:.1f} MB, masks, scores or repeated tensors among them; without, and as one bit"
        in text
    )
    assert f"it would be {left / 1e3:.1f} kB" in text
    drawn = frames.storage(tmp_path / "out")["bytes"].tolist()
    assert drawn == pytest.approx([size, size - 8 * w.size, left])


def test_two_names_for_the_same_bytes_are_on_disk_once(tmp_path: Path) -> None:
    w = torch.zeros(64, 64)
    w[:4] = 1
    torch.save({"wte.weight": w, "lm_head.weight": w}, tmp_path / "m.pt")
    inspect(tmp_path / "m.pt", tmp_path / "out")
    shares = frames.denominators(tmp_path / "out").set_index("denominator")
    assert shares.loc["bytes on disk", "zeros"] == 4 * 60 * 64 and shares.loc["whole model", "total"] == 4096
    text = "\n".join(frames.findings(tmp_path / "out")["sentence"])
    assert "lm_head" in text and "-" not in text.split("it would be")[-1][:4]


def test_a_plain_net_without_blocks_has_its_patterns_too(tmp_path: Path) -> None:
    one, two = dense(64, 32), dense(32, 64)
    one[::2, 0::4] = one[::2, 1::4] = one[1::2, 2::4] = one[1::2, 3::4] = 0
    two[:8] = 0
    text = said(tmp_path, {"fc1.weight": one, "fc2.weight": two})
    assert "% of 4,096 prunable weights are zero" in text
    assert {"rows", "2:4"} <= set(frames.patterns(tmp_path / "out")["pattern"])


def test_the_triangle_of_gpt2_is_no_weight(tmp_path: Path) -> None:
    triangle = np.tril(np.ones((32, 32)))[None, None]
    tensors = {
        "h.0.attn.c_attn.weight": dense(16, 48),
        "h.0.attn.bias": triangle,
        "h.0.attn.masked_bias": np.ones(1),
    }
    text = said(tmp_path, tensors)
    assert "Dense: none of the 768 prunable weights is zero." in text
    found = frames.tensors(tmp_path / "out").set_index("tensor")
    assert found.loc["h.0.attn.bias", "role"] == "statistic"


def test_what_a_bit_mask_would_save_is_counted(tmp_path: Path) -> None:
    w = dense(1000, 100)
    w[np.random.default_rng(1).random(w.shape) > 0.03] = 0
    text = said(tmp_path, {f"{QUERY}.weight": w}, "BF16")
    size = (tmp_path / "m.safetensors").stat().st_size
    left = size - 2 * w.size + w.size / 8 + 2 * (w != 0).sum()
    assert f"no smaller than dense, {size / 1e6:.1f} MB" in text
    assert f"it would be {left / 1e3:.1f} kB" in text


def test_values_that_are_as_good_as_zero_are_told_apart_from_zeros(tmp_path: Path) -> None:
    w = dense(64, 64)
    w[:8] = 1e-30
    assert "512 more (12.5 %) are smaller than 10⁻¹²" in said(tmp_path, {f"{QUERY}.weight": w})


def run_folder(tmp_path: Path, zeros: bool, smaller: bool = False) -> Path:
    """What a run leaves: sites, masks, and a model whose weights are zero where pruned, or no longer."""
    run, w = tmp_path / "run", dense(16, 16)
    keep = np.random.default_rng(2).random((16, 16)) > 0.75
    (run / "model").mkdir(parents=True)
    (run / "masks").mkdir()
    (run / "spec.json").write_text("{}")
    site = {"site": QUERY, "role": "query", "layer": 0, "rows": 16, "cols": 16}
    (run / "sites.json").write_text(json.dumps({"sites": [site]}))
    arrays.save_masks(run / "masks" / "000001.npz", {QUERY: keep})
    stored = w[:4] if smaller else w * keep if zeros else w
    made.write(run / "model" / "model.safetensors", {f"{QUERY}.weight": made.floats("F32", stored)})
    return run


def test_a_run_is_held_against_its_masks(tmp_path: Path) -> None:
    for i, (zeros, smaller, words) in enumerate(
        ((True, False, "are the masks of its run: "), (False, False, "Lost mask: the run pruned "),
         (False, True, "Compact: of 256 weights in 1 matrix of its run 64 are stored"))
    ):  # fmt: skip
        run = run_folder(tmp_path / str(i), zeros, smaller)
        inspect(run, tmp_path / str(i) / "out")
        assert words in "\n".join(frames.findings(tmp_path / str(i) / "out")["sentence"])


def test_the_document_of_the_command_is_what_counting_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    w, v = dense(64, 64), dense(64, 64)
    w[:5], w[:, :7], v[np.random.default_rng(0).random(v.shape) > 0.5] = 0, 0, 0
    v[0, 0] = np.nan
    tensors = {f"{QUERY}.weight": w, f"{VALUE}.weight": v, f"{QUERY}.bias": np.zeros(64)}
    path = made.write(tmp_path / "m.safetensors", {k: made.floats("F32", t) for k, t in tensors.items()})
    assert main(["inspect", str(path), "--json", "--runs-dir", str(tmp_path / "runs")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["path"] == str(path)
        and found["format"] == "safetensors"
        and found["bytes"] == path.stat().st_size
    )
    first, second, bias = found["tensors"]
    assert (first["name"], first["role"], first["shape"], first["dtype"]) == (
        f"{QUERY}.weight",
        "query",
        [64, 64],
        "F32",
    )
    assert (first["zeros"], first["rows_empty"], first["cols_empty"]) == ((w == 0).sum(), 5, 7)
    assert first["heads_empty"] is None and first["blocks32_empty"] == 0 and bias["rows_empty"] is None
    assert second["nonfinite"] == 1
    assert first["abs_quantiles"]["0.99"] == pytest.approx(np.quantile(np.abs(w), 0.99), rel=0.01)
    prunable = ((w == 0).sum() + (v == 0).sum()) / 8192
    assert found["sparsity"]["prunable"] == pytest.approx(prunable)
    assert found["sparsity"]["model"] == pytest.approx((prunable * 8192 + 64) / (8192 + 64))
    assert {p["pattern"] for p in found["patterns"]} >= {"rows", "columns"}
    assert found["seconds"] > 0 and found["bytes_per_s"] > 0 and found["verdict"] and not found["problems"]


def test_the_command_refuses_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x02]q\x00.")
    for name in ("bad.safetensors", "none.safetensors", "."):
        code = main(["inspect", str(tmp_path / name), "--json", "--runs-dir", str(tmp_path / "runs")])
        out, err = capsys.readouterr()
        assert code == 2 and out == "" and err.count("\n") == 1 and "Traceback" not in err


def test_real_files_agree_with_numpy(checkpoints_dir: Path, tmp_path: Path) -> None:
    for i, path in enumerate(sorted(checkpoints_dir.rglob("*.safetensors"))):
        inspect(path, tmp_path / str(i))
        found = frames.tensors(tmp_path / str(i)).set_index("tensor")
        for name, w in load_file(path).items():
            row = found.loc[name]
            assert row["zeros"] == (w == 0).sum() and row["nonfinite"] == (~np.isfinite(w)).sum()
            if w.ndim >= 2:
                rest = w.reshape(w.shape[0], w.shape[1], -1)
                assert row["rows_empty"] == (~rest.any(axis=(1, 2))).sum()
                assert row["cols_empty"] == (~rest.any(axis=(0, 2))).sum()
            if w.dtype == np.float32 and w.size:
                assert row["mean"] == pytest.approx(w.mean(dtype=np.float64), rel=1e-9, abs=1e-12)
                assert row["q50"] == pytest.approx(
                    np.quantile(np.abs(w), 0.5, method="inverted_cdf"), rel=0.004
                )


def test_removed_layers_and_empty_channels_of_the_distiller_family_are_named(
    checkpoints_dir: Path, tmp_path: Path
) -> None:
    for name, words in (
        ("dense", ["Dense: none of the 269,824"]),
        (
            "ch_regularized_dense",
            ["8.9 % of 269,824", "69 of 240 input channels empty in 7 convolutions", "layer1.0.conv2"],
        ),
        (
            "4D_regularized_5Lremoved",
            ["5 matrices zero throughout: layer1.0.conv1, layer1.0.conv2, layer1.1.conv1"],
        ),
        ("4D_regularized_5Lremoved_finetuned", ["6.8 % of 269,824", "layer2.2.conv2"]),
    ):
        inspect(checkpoints_dir / "distiller_ssl_resnet20" / f"{name}.safetensors", tmp_path / name)
        text = "\n".join(frames.findings(tmp_path / name)["sentence"])
        assert all(w in text for w in words), text
