"""Run folders made on the spot, in the format a worker writes, in every condition a run can be in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from analysis import recipes, spec
from analysis.store import arrays, layout

ROLES = ("query", "key", "value", "attention output", "ffn in", "ffn out")
SHAPES = {"ffn in": (128, 32), "ffn out": (32, 128)}
CONDITIONS = ("none", "queued", "running", "failed", "diverged", "finished", "unreadable")
BINS = 48


def sites(layers: int = 3) -> list[dict[str, Any]]:
    """The sites of a small BERT: six matrices a layer."""
    found = []
    for layer in range(layers):
        for role in ROLES:
            rows, cols = SHAPES.get(role, (32, 32))
            heads = 4 if role in ROLES[:4] else None
            name = f"encoder.layer.{layer}.{role.replace(' ', '_')}"
            found.append(
                {"site": name, "role": role, "layer": layer, "rows": rows, "cols": cols, "heads": heads}
            )
    return found


def make_run(
    runs: Path,
    run_id: str,
    *,
    recipe: str = "movement",
    keep: float = 0.1,
    seed: int = 0,
    lr: float = 1e-3,
    state: str = "done",
    reason: str = "",
    name: str = "",
    points: int = 600,
    value: float | None = None,
) -> Path:
    """Writes one run folder.

    Args:
        runs: where to.
        run_id: its name.
        recipe: name of the recipe.
        keep: fraction kept, 1 for dense.
        seed: seed of the run and of the numbers made up here.
        lr: learning rate of the weights.
        state: what the state file says.
        reason: the sentence with it.
        name: display name.
        points: sampled weights written.
        value: test accuracy, made up when None.

    Returns:
        the folder.
    """
    path = runs / run_id
    path.mkdir(parents=True)
    settings = {"optimizer.lr": lr, "training.steps": 100}
    wanted = recipes.build(
        recipe, "bundled:text", "bundled:opinions", keep=keep, seed=seed, settings=settings
    )
    as_dict = spec.to_dict(wanted)
    as_dict["name"] = name
    layout.write_json(path / "spec.json", as_dict, durable=False)
    progress = {"queued": 0.0, "running": 0.5, "done": 1.0}.get(state, 0.4)
    times = {"created": f"2026-01-0{1 + seed % 9}T10:00:00Z", "started": None, "ended": None}
    numbers = {
        "step": int(100 * progress),
        "steps": 100,
        "progress": progress,
        "seconds": 12.5 * progress,
        "attempt": 1,
    }
    process = {"pid": None, "pid_start": None, "boot_id": ""}
    layout.write_json(
        path / "state.json", {"state": state, "reason": reason, **numbers, **times, **process}, False
    )
    if state != "queued":
        _write_measured(path, keep, seed, recipe, progress, points, value)
    return path


def _write_measured(
    path: Path, keep: float, seed: int, recipe: str, progress: float, points: int, value: float | None
) -> None:
    found = sites()
    total = sum(s["rows"] * s["cols"] for s in found)
    counts = {"prunable": total, "encoder": int(total * 1.1), "model": int(total * 1.6)}
    head = {
        "counts": counts,
        "metric": "accuracy",
        "floor": 0.5,
        "label_names": ["no", "yes"],
        "better": "higher",
    }
    layout.write_json(path / "sites.json", {"sites": found, **head}, durable=False)
    rng = np.random.default_rng(seed + len(recipe))
    top = value if value is not None else 0.95 - 0.1 * (1 - keep) ** 4 - 0.02 * rng.random()
    rows: list[dict[str, Any]] = [{"kind": "phase", "phase": "training", "step": 0, "progress": 0, "time": 0}]
    for step in range(0, int(100 * progress) + 1, 2):
        at = {"step": step, "progress": step / 100, "time": step / 10}
        kept = keep + (1 - keep) * max(0.0, 1 - step / 60) ** 3
        loss = 0.7 * np.exp(-step / 40) + 0.05 * rng.random()
        terms = {"task": loss, "penalty": 0.01} if recipe == "soft_movement" else {"task": loss}
        numbers = {"loss": loss, "terms": terms, "keep": kept, "kept": kept, "lr": 1e-3}
        rows.append({"kind": "loss", **at, **numbers, "penalty_weight": 0.0, "flips": 0.02 * rng.random()})
        if step % 20 == 0:
            rows.append(_evaluation(at, "validation", "current", 0.5 + (top - 0.5) * step / 100, kept))
    end = {"step": int(100 * progress), "progress": progress, "time": 10 * progress}
    if progress == 1:
        rows.append(_evaluation(end, "validation", "final", top + 0.01, keep))
        rows.append(_evaluation(end, "test", "final", top, keep))
        share = keep if recipe == "compute_optimal" else 1.0
        step = round(3e9 * share)
        macs = {"macs_forward": step // 96, "macs_step": step, "macs_run": 100 * step, "tokens": 32}
        rows.append({"kind": "compute", **end, **macs})
    rows.append({"kind": "snapshot", **end, "number": end["step"]})
    (path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _write_arrays(path, found, keep, rng, points, end["step"], recipe)
    (path / "log.txt").write_text("loading\ntraining\n")


def _evaluation(at: dict[str, Any], split: str, cut: str, value: float, kept: float) -> dict[str, Any]:
    keeps = {
        "keep_target": kept,
        "keep_prunable": kept,
        "keep_encoder": 0.1 + 0.9 * kept,
        "keep_model": 0.4 + 0.6 * kept,
    }
    measured = {
        "metric": "accuracy",
        "value": value,
        "metrics": {"accuracy": value},
        "examples": 1000,
        "floor": 0.5,
    }
    return {"kind": "eval", **at, "split": split, "cut": cut, **measured, **keeps}


def _write_arrays(
    path: Path,
    found: list[dict[str, Any]],
    keep: float,
    rng: np.random.Generator,
    points: int,
    number: int,
    recipe: str,
) -> None:
    masks, planes = {}, {k: [] for k in ("score_kept", "score_pruned", "start_kept", "start_pruned")}
    sample: dict[str, list[Any]] = {k: [] for k in ("site", "index", "w0", "w", "score", "kept")}
    edges = np.linspace(-0.3, 0.3, BINS + 1, dtype=np.float32)
    score_edges = edges * 10
    thresholds = []
    for s in found:
        n = s["rows"] * s["cols"]
        w0 = rng.normal(0, 0.06, n).astype(np.float32)
        w = (w0 + rng.normal(0, 0.02, n)).astype(np.float32)
        score = np.abs(w) * 8 if recipe == "magnitude" else w * (w - w0) * 200 + rng.normal(0, 0.2, n)
        k = min(n, max(1, round(keep * n * (0.6 + 0.4 * s["layer"]))))
        threshold = np.sort(score)[-k]
        kept = score >= threshold
        thresholds.append(threshold)
        masks[s["site"]] = kept
        for which, x, y, y_edges in (("score", w, score, score_edges), ("start", w0, w, edges)):
            for part, chosen in (("kept", kept), ("pruned", ~kept)):
                x_in, y_in = (
                    np.clip(x[chosen], -0.299, 0.299),
                    np.clip(y[chosen], y_edges[0] * 0.99, y_edges[-1] * 0.99),
                )
                planes[f"{which}_{part}"].append(
                    np.histogram2d(x_in, y_in, bins=(edges, y_edges))[0].astype(np.uint32)
                )
        pick = rng.choice(n, points // len(found), replace=False)
        for column, values in (
            ("index", pick),
            ("w0", w0[pick]),
            ("w", w[pick]),
            ("score", score[pick]),
            ("kept", kept[pick]),
        ):
            sample[column].extend(values)
        sample["site"].extend([s["site"]] * len(pick))
    names = f"{number:06d}"
    for folder in ("masks", "points", "histograms"):
        (path / folder).mkdir()
    arrays.save_masks(path / "masks" / f"{names}.npz", masks)
    arrays.save_points(path / "points" / f"{names}.parquet", sample)
    stacked = {k: np.stack(v) for k, v in planes.items()}
    grid = {"weight_edges": edges, "score_edges": score_edges.astype(np.float32), "start_edges": edges}
    about = {
        "sites": np.array([s["site"] for s in found]),
        "threshold": np.array(thresholds, dtype=np.float32),
    }
    arrays.save_planes(path / "histograms" / f"{names}.npz", {**about, **grid, **stacked})


def make_condition(runs: Path, condition: str) -> None:
    """Fills a runs folder so that it holds what a page must cope with."""
    runs.mkdir(parents=True, exist_ok=True)
    if condition == "unreadable":
        broken = runs / "broken-1"
        broken.mkdir()
        (broken / "spec.json").write_text("{")
        (runs / "Not an id!").mkdir()
    elif condition == "finished":
        make_study(runs, seeds=1)
    elif condition != "none":
        reasons = {"failed": "There is no file <b>x</b>.csv.", "diverged": "The loss became NaN at step 40."}
        make_run(
            runs, f"{condition}-1", state=condition, reason=reasons.get(condition, ""), name="tea & *milk*"
        )


def make_study(runs: Path, seeds: int = 2) -> None:
    """A finished comparison: three recipes at several keeps, and a dense reference."""
    for seed in range(seeds):
        make_run(runs, f"dense-{seed}", recipe="dense", keep=1.0, seed=seed, value=0.96 - 0.01 * seed)
        for keep in (0.3, 0.1, 0.03):
            for recipe in ("magnitude", "movement"):
                for lr in (1e-3, 3e-3):
                    name = f"{recipe}-{round(100 * keep):02d}-{round(lr * 1e4)}-{seed}"
                    make_run(runs, name, recipe=recipe, keep=keep, seed=seed, lr=lr, points=1800)
