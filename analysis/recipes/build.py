"""From a recipe's name and a few choices to a spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.errors import SpecError
from analysis.parts.losses import LogitDistillation, Task
from analysis.recipes.base import OWN
from analysis.spec import LineUp, RunSpec, TaskSpec, Training, installed_versions, with_settings

VARIANT = "stages.variant"  # the one setting that only a recipe understands

COMMON: dict[str, dict[str, Any]] = {
    "bundled:opinions": {
        "optimizer.lr": 1e-3,
        "training.steps": 400,
        "training.precision": "fp32",
        "training.evaluations": 4,
    },
    "bundled:digits": {
        "optimizer.lr": 5e-4,
        "training.steps": 300,
        "training.precision": "fp32",
        "training.evaluations": 4,
    },
}


def build(
    recipe: str,
    model: str,
    task: str | TaskSpec,
    *,
    keep: float | None = None,
    seed: int = 0,
    steps: int | None = None,
    settings: Mapping[str, Any] | None = None,
    teacher: str = "",
    name: str = "",
) -> RunSpec:
    """Writes the spec of one run.

    Args:
        recipe: a name in the catalogue.
        model: bundled:text, bundled:digits, run:ID, a local folder or a hub id.
        task: bundled:opinions, bundled:digits, a local file or folder, a hub dataset, or a full TaskSpec.
        keep: fraction of prunable weights that stays, in (0, 1]; None for the recipe's own.
        seed: seed of head, data order, dropout and random scores.
        steps: optimizer steps; None for the default of the task.
        settings: changes in the grammar of ``--set``; ``stages.variant`` chooses other stages of the recipe.
        teacher: a fine-tuned model whose outputs are followed; "" for none, or for the one that a stage
            makes.
        name: a label for people.

    Returns:
        the spec.

    Raises:
        SpecError: an unknown recipe, or a value that is not allowed.
    """
    from analysis.recipes import RECIPES

    if recipe not in RECIPES:
        raise SpecError(f"recipe is {recipe!r}; allowed is one of {', '.join(RECIPES)}.")
    r = RECIPES[recipe]
    data = task if isinstance(task, TaskSpec) else TaskSpec(source=task)
    parts = r.lineup
    if teacher and not parts.followers() and not r.stages:
        parts = taught(parts)
    plan = _plan(data.source, settings or {})
    if steps is not None:
        plan["training.steps"] = steps
    spec = RunSpec(
        recipe=recipe,
        model=model,
        task=data,
        parts=parts,
        training=Training(steps=2000),
        keep=r.keep if keep is None else keep,
        seed=seed,
        teacher=teacher,
        stages=r.stages,
        name=name,
        versions=installed_versions(),
    )
    return configured(spec, plan)


def configured(spec: RunSpec, settings: Mapping[str, Any]) -> RunSpec:
    """The spec with some fields changed, as ``with_settings``; ``stages.variant`` changes its stages.

    Raises:
        SpecError: a name or a value that is not allowed.
    """
    from analysis.recipes import RECIPES

    plan = dict(settings)
    if VARIANT not in plan:
        return with_settings(spec, plan)
    if spec.recipe not in RECIPES:
        raise SpecError(f"{VARIANT} is set, but the recipe {spec.recipe!r} is none of {', '.join(RECIPES)}.")
    stages = RECIPES[spec.recipe].staged(str(plan.pop(VARIANT)))
    follows, parts = any(stage.teacher != "none" for stage in stages), spec.parts
    if follows and not parts.followers():
        parts = taught(parts)
    elif not follows and not spec.teacher and parts == taught(parts):  # as another variant has left it
        parts = dataclasses.replace(parts, distillation=None, task=Task())
    return with_settings(dataclasses.replace(spec, stages=stages, parts=parts), plan)


def teacher_for(recipe: str, teacher: str) -> str:
    """The teacher where a recipe can learn from a fine-tuned one, "" where it cannot.

    Used where one teacher is chosen for several recipes, some of which have no use for it.
    """
    from analysis.recipes import RECIPES

    if recipe == "dense" or recipe not in RECIPES:
        return "" if recipe == "dense" else teacher
    stages = RECIPES[recipe].stages
    follows = any("fine-tuned" in (s.teacher, "fine-tuned" if s.start == "teacher" else "") for s in stages)
    return teacher if follows or not stages else ""


def variant_of(spec: RunSpec) -> str:
    """The name of the stages of a spec among those of its recipe; "own" where they have no other name."""
    from analysis.recipes import RECIPES

    known = RECIPES[spec.recipe].variants if spec.recipe in RECIPES else {}
    return next((name for name, stages in known.items() if stages == spec.stages), OWN)


def _plan(source: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings tuned for a task and those given; what was tuned for one part says nothing of another in
    its slot: AdamW's rate would starve SGD.
    """
    tuned = COMMON.get(source, {})
    fit = {name: v for name, v in tuned.items() if f"{name.partition('.')[0]}.type" not in given}
    return {**fit, **given}


def taught(parts: LineUp) -> LineUp:
    """The line-up with a teacher's logits followed beside the labels, weighed 0.9 to 0.1."""
    return dataclasses.replace(parts, distillation=LogitDistillation(), task=Task(weight=0.1))


def card(recipe: str) -> str:
    """Returns the text (Markdown) of a recipe's card.

    Raises:
        SpecError: the recipe has no card.
    """
    path = Path(__file__).parent / f"{recipe}.md"
    from analysis.recipes import RECIPES

    if recipe not in RECIPES or not path.is_file():
        raise SpecError(f"recipe is {recipe!r}; cards exist for {', '.join(RECIPES)}.")
    return path.read_text(encoding="utf-8")
