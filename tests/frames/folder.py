"""Builds run folders for tests: the layout of a real run, made of small random arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from analysis.store import arrays, layout
from analysis.store.events import EventWriter

ROLES = (("query", 1), ("key", 1), ("value", 1), ("attention output", 1), ("ffn in", 4), ("ffn out", 0))


def sites_json(layers: int = 2, width: int = 8, heads: int = 2) -> dict[str, Any]:
    sites = []
    for layer in range(layers):
        for role, rows in ROLES:
            shape = (width * rows, width) if rows else (width, 4 * width)
            sites.append(
                {
                    "site": f"encoder.layer.{layer}.{role}",
                    "role": role,
                    "layer": layer,
                    "rows": shape[0],
                    "cols": shape[1],
                    "heads": heads if rows == 1 else None,
                }
            )
    prunable = sum(s["rows"] * s["cols"] for s in sites)
    counts = {"prunable": prunable, "encoder": prunable + 100, "model": 3 * prunable}
    return {
        "sites": sites,
        "counts": counts,
        "metric": "accuracy",
        "floor": 0.5,
        "label_names": ["no", "yes"],
        "better": "higher",
    }


def weights_of(site: dict[str, Any], recipe: str, seed: int) -> dict[str, np.ndarray]:
    """Weights before and after a pretended training, and scores: |w| for magnitude, movement otherwise."""
    mix = np.random.default_rng([seed, sum(map(ord, site["site"]))])
    shape = (site["rows"], site["cols"])
    start = mix.normal(0, 0.05, shape).astype(np.float32)
    moved = mix.normal(0, 0.012, shape).astype(np.float32)
    w = start + moved
    score = (
        np.abs(w)
        if recipe == "magnitude"
        else (moved * start * 2000 + mix.normal(0, 0.3, shape)).astype("f4")
    )
    return {"w0": start, "w": w, "score": score.astype(np.float32)}


def top(score: np.ndarray, keep: float) -> np.ndarray:
    count = max(1, round(keep * score.size))
    mask = np.zeros(score.size, dtype=bool)
    mask[np.argsort(-score.reshape(-1), kind="stable")[:count]] = True
    return mask.reshape(score.shape)


def write_run(
    path: Path,
    *,
    recipe: str = "movement",
    seed: int = 0,
    keep: float = 0.25,
    value: float = 0.8,
    lr: float = 1e-3,
    layers: int = 2,
    width: int = 8,
    bins: int = 24,
    steps: int = 100,
    state: str = "done",
) -> Path:
    """Writes a finished run; ``width`` 8 gives 1,536 prunable weights, 384 the matrices of MiniLM."""
    path.mkdir(parents=True)
    info = sites_json(layers, width)
    layout.write_json(path / "sites.json", info)
    spec = {
        "schema_version": 1,
        "recipe": recipe,
        "model": "bundled:text",
        "task": {"source": "bundled:opinions"},
        "parts": {"optimizer": {"type": "Optimizer", "lr": lr}},
        "training": {"steps": steps},
        "keep": keep,
        "seed": seed,
        "teacher": "",
        "name": f"{recipe} {seed}",
    }
    layout.write_json(path / "spec.json", spec)
    times = {"created": "2026-01-01T00:00:00+00:00", "started": None, "ended": None}
    final = {
        "state": state,
        "reason": "",
        "step": steps,
        "steps": steps,
        "progress": 1.0,
        "seconds": 12.5,
        **times,
    }
    layout.write_json(path / "state.json", final)
    for folder in ("masks", "points", "histograms"):
        (path / folder).mkdir()
    matrices = {s["site"]: weights_of(s, recipe, seed) for s in info["sites"]}
    for number, share in ((0, 1.0), (steps // 2, (1 + keep) / 2), (steps, keep)):
        masks = {name: top(m["score"], share) for name, m in matrices.items()}
        arrays.save_masks(path / "masks" / f"{number:06d}.npz", masks)
    write_points(path / "points" / f"{steps:06d}.parquet", matrices, masks)
    write_planes(path / "histograms" / f"{steps:06d}.npz", matrices, masks, bins)
    write_events(path, steps, keep, value, info["floor"])
    return path


def write_points(path: Path, matrices: dict[str, Any], masks: dict[str, np.ndarray], each: int = 40) -> None:
    columns: dict[str, list[Any]] = {k: [] for k in ("site", "index", "w0", "w", "score", "kept")}
    for name, m in matrices.items():
        index = np.sort(np.random.default_rng(7).choice(m["w"].size, min(each, m["w"].size), replace=False))
        columns["site"] += [name] * len(index)
        columns["index"] += index.tolist()
        for key in ("w0", "w", "score"):
            columns[key] += m[key].reshape(-1)[index].tolist()
        columns["kept"] += masks[name].reshape(-1)[index].tolist()
    arrays.save_points(path, columns)


def write_planes(path: Path, matrices: dict[str, Any], masks: dict[str, np.ndarray], bins: int) -> None:
    edges = {}
    for key, name in (("w", "weight"), ("score", "score"), ("w0", "start")):
        every = np.concatenate([m[key].reshape(-1) for m in matrices.values()])
        edges[name] = np.linspace(every.min(), np.nextafter(every.max(), np.inf), bins + 1).astype(np.float32)
        edges[name][-1] = np.nextafter(np.float32(every.max()), np.float32(np.inf))
        edges[name][0] = every.min()
    planes: dict[str, Any] = {f"{n}_edges": e for n, e in edges.items()}
    planes["sites"] = np.array(list(matrices))
    for kind, x, y in (("score", "w", "score"), ("start", "w0", "w")):
        names = ("weight", "score") if kind == "score" else ("start", "weight")
        for part in ("kept", "pruned"):
            planes[f"{kind}_{part}"] = np.stack(
                [
                    np.histogram2d(
                        m[x][masks[s] == (part == "kept")],
                        m[y][masks[s] == (part == "kept")],
                        bins=[edges[names[0]], edges[names[1]]],
                    )[0].astype(np.uint32)
                    for s, m in matrices.items()
                ]
            )
    planes["threshold"] = np.array(
        [m["score"][masks[s]].min() for s, m in matrices.items()], dtype=np.float32
    )
    arrays.save_planes(path, planes)


def write_events(path: Path, steps: int, keep: float, value: float, floor: float) -> None:
    with EventWriter(path / "events.jsonl") as events:
        events.append({"kind": "phase", "step": 0, "progress": 0.0, "time": 0.0, "phase": "training"})
        for step in range(0, steps + 1, 5):
            progress = step / steps
            at = {"step": step, "progress": progress, "time": step * 0.1}
            now = max(keep, 1 - (1 - keep) * progress * 1.5)
            loss = 0.7 * np.exp(-2 * progress) + 0.02
            row = {
                "loss": loss + 0.01,
                "terms": {"task": loss, "penalty": 0.01},
                "keep": now,
                "kept": now,
                "lr": 1e-3,
            }
            events.append(
                {"kind": "loss", **at, **row, "penalty_weight": None, "flips": 0.1 * (1 - progress)}
            )
            if step % 25 == 0:
                for cut, worse in (("current", 0.0), ("final", 0.2 * (1 - progress))):
                    score = floor + (value - floor) * (1 - np.exp(-4 * progress)) - worse * (value - floor)
                    events.append({"kind": "eval", **at, **evaluation("validation", cut, score, keep, floor)})
        at = {"step": steps, "progress": 1.0, "time": 12.0}
        for split, shift in (("validation", 0.01), ("test", 0.0)):
            events.append({"kind": "eval", **at, **evaluation(split, "final", value + shift, keep, floor)})


def evaluation(split: str, cut: str, value: float, keep: float, floor: float) -> dict[str, Any]:
    return {
        "split": split,
        "cut": cut,
        "metric": "accuracy",
        "value": value,
        "metrics": {"accuracy": value},
        "examples": 200,
        "floor": floor,
        "keep_target": keep,
        "keep_prunable": keep,
        "keep_encoder": min(1.0, keep + 0.02),
        "keep_model": min(1.0, keep + 0.5),
    }


def tear(path: Path, tail: str = '{"kind": "loss", "step": 9') -> None:
    """Leaves a torn last line, a foreign line and a null in the event file, as a killed worker may."""
    with open(path / "events.jsonl", "a", encoding="utf-8") as file:
        file.write("not json at all\n")
        file.write(json.dumps({"kind": "loss", "step": 3, "progress": None, "loss": None}) + "\n")
        file.write(tail)
