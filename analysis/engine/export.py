"""The result as an ordinary Hugging Face folder: masks made permanent, safetensors, a model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from analysis import spec as specs
from analysis.engine import factors
from analysis.engine.setup import Setup


def save(path: Path, setup: Setup, metrics: dict[str, dict[str, float]]) -> Path:
    """Saves the finalised model, its tokenizer and a card under ``model/`` of a run.

    Args:
        path: the run's folder.
        setup: the run, after the masks were made permanent.
        metrics: split to metric to value.

    Returns:
        the folder, which ``from_pretrained`` loads without this project.
    """
    target, temporary = path / "model", path / "model.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    setup.model.save_pretrained(temporary)  # type: ignore[operator]
    if setup.tokenizer is not None and hasattr(setup.tokenizer, "save_pretrained"):
        setup.tokenizer.save_pretrained(temporary)
    (temporary / "README.md").write_text(model_card(setup, metrics), encoding="utf-8")
    for file in temporary.iterdir():
        file.chmod(0o644)  # safetensors writes 0600 whatever the umask says
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    return target


def model_card(setup: Setup, metrics: dict[str, dict[str, float]]) -> str:
    """The card in Markdown: what was kept under each denominator, what it scores, and how to make it
    again.
    """
    spec, data = setup.leg.asked, setup.data
    kept = setup.counts.keeps(setup.pruner.kept)
    rows = [
        f"| {split} | {name} | {value:.4f} |"
        for split, found in metrics.items()
        for name, value in found.items()
    ]
    facts: dict[str, Any] = {"library_name": "transformers", "tags": ["pruning", spec.recipe]}
    head = "\n".join(f"{key}: {json.dumps(value)}" for key, value in facts.items())
    return "\n".join(
        [
            "---",
            head,
            "---",
            f"# {spec.model} pruned by {spec.recipe}",
            "",
            f"Fine-tuned on {spec.task.source} ({data.kind}) and {_how(setup)} "
            f"{kept['keep_prunable']:.4%} of its {setup.counts.prunable:,} prunable weights "
            f"({kept['keep_encoder']:.4%} of the encoder, {kept['keep_model']:.4%} of the whole model). "
            f"{_stored(setup)}",
            "",
            "| split | metric | value |",
            "|---|---|---|",
            *rows,
            "",
            f"A predictor that learnt nothing scores {data.floor:.4f} on the test split.",
            "",
            "Made by the spec below: save it as `spec.json` and run `python -m analysis run spec.json`.",
            "",
            "```json",
            json.dumps(specs.to_dict(spec), indent=1),
            "```",
            "",
        ]
    )


def _how(setup: Setup) -> str:
    return (
        "stored in training as factors whose parameters are" if factors.ranks(setup.pruner) else "pruned to"
    )


def _stored(setup: Setup) -> str:
    thin = factors.ranks(setup.pruner)
    if not thin:
        return (
            "Pruned weights are exact zeros in ordinary dense tensors: the file is not smaller and stock "
            "PyTorch is not faster."
        )
    return (
        f"{len(thin)} matrices are products of two factors, multiplied out here into ordinary dense tensors "
        "of low rank without zeros: this file is not smaller. The two thin layers of each are in the run's "
        "folder `compact`, which this project reads."
    )
