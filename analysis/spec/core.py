"""The spec: everything needed to repeat a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from analysis.errors import SpecError
from analysis.parts.base import Part, knob
from analysis.parts.budget import ParameterBudget
from analysis.parts.embedding import FactorisedEmbedding
from analysis.parts.floor import GlobalCut, GlobalWithFloor
from analysis.parts.flow import Flow
from analysis.parts.graft import Graft, SoftClasses
from analysis.parts.learned import BudgetHinge, LearnedKeep
from analysis.parts.levels import MultiLevel
from analysis.parts.lookahead import Extrapolation
from analysis.parts.losses import LogitDistillation, Penalty, Task
from analysis.parts.lowrank import Component, Perturbation, SingularValue
from analysis.parts.matching import AttentionDistillation, HiddenDistillation, SoftTargets
from analysis.parts.nested import NestedTopK
from analysis.parts.optim import Optimizer
from analysis.parts.reparam import Reparam
from analysis.parts.schedules import Schedule
from analysis.parts.scores import Score
from analysis.parts.select import Select
from analysis.parts.selfteach import SelfDistillation
from analysis.parts.sensitivity import Sensitivity
from analysis.parts.taylor import Taylor
from analysis.parts.topkast import TopKast, TopKastPenalty
from analysis.parts.units import Units
from analysis.spec import combinations, stages
from analysis.spec.stages import Stage

SCHEMA_VERSION = 1
KINDS = (
    "auto",
    "classification",
    "regression",
    "question-answering",
    "token-classification",
    "image-classification",
)


@dataclass(frozen=True)
class TaskSpec(Part):
    """Where the data is, which columns mean what, and how much of it is used."""

    source: str = knob("bundled:opinions", "bundled task, local file or folder, or hub dataset")
    kind: str = knob("auto", "what is predicted", choices=KINDS)
    text: str = knob("", "column of the (first) text; empty: found by its usual names")
    pair: str = knob("", "column of the second text, if there is one")
    label: str = knob("", "column of the label")
    max_length: int = knob(128, "longest input; the rest is cut off", unit="tokens", low=4, high=8192)
    train_rows: int = knob(0, "use only so many training rows; 0 = all", unit="rows", low=0)
    eval_rows: int = knob(0, "use only so many rows of each evaluation split; 0 = all", unit="rows", low=0)

    title: ClassVar[str] = "task"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.source.strip():
            raise SpecError(
                "TaskSpec.source is empty; allowed is bundled:opinions, bundled:digits, a file, a folder or "
                "a hub name."
            )


@dataclass(frozen=True)
class Training(Part):
    """How long, on what, and how often a run looks up."""

    steps: int = knob(400, "optimizer steps", unit="steps", low=1, high=10_000_000, log=True)
    batch: int = knob(32, "examples per optimizer step", unit="examples", low=1, high=65536)
    accumulate: int = knob(1, "parts into which a batch is cut to save memory", low=1, high=65536)
    precision: str = knob(
        "auto", "auto: bfloat16 where the hardware has it", choices=("auto", "fp32", "bf16")
    )
    device: str = knob("auto", "auto: CUDA when there is one", choices=("auto", "cpu", "cuda"))
    threads: int = knob(0, "CPU threads; 0 = fair share of this machine", unit="threads", low=0, high=1024)
    evaluations: int = knob(8, "evaluations on the development split during the run", low=0, high=1000)
    snapshots: int = knob(
        1, "times the masks and scores are written; the last is the final one", low=1, high=1000
    )
    points: int = knob(20000, "weights sampled for the scatter", unit="weights", low=100, high=1_000_000)
    refresh: int = knob(
        1, "optimizer steps between two selections of the mask", unit="steps", low=1, high=10_000
    )
    checkpoint_seconds: int = knob(
        60, "seconds between two checkpoints for resuming", unit="s", low=1, high=86400
    )

    title: ClassVar[str] = "training"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.accumulate > self.batch:
            raise SpecError(
                f"Training.accumulate is {self.accumulate}; it cuts a batch of {self.batch} and must not "
                "exceed it."
            )


@dataclass(frozen=True)
class LineUp:
    """One part per slot."""

    score: Score | Flow | Sensitivity | Taylor | SingularValue
    units: Units | MultiLevel | Component
    select: Select | TopKast | NestedTopK | GlobalWithFloor | GlobalCut | ParameterBudget | LearnedKeep
    schedule: Schedule
    reparam: Reparam
    optimizer: Optimizer
    lookahead: Extrapolation | None = None
    graft: Graft | None = None
    embedding: FactorisedEmbedding | None = None
    task: Task = field(default_factory=Task)
    distillation: LogitDistillation | SoftTargets | SoftClasses | SelfDistillation | None = None
    hidden: HiddenDistillation | None = None
    attention: AttentionDistillation | None = None
    penalty: Penalty | TopKastPenalty | Perturbation | BudgetHinge | None = None

    def __post_init__(self) -> None:
        combinations.check(self)

    def followers(
        self,
    ) -> dict[
        str,
        LogitDistillation
        | SoftTargets
        | SelfDistillation
        | HiddenDistillation
        | AttentionDistillation
        | Graft,
    ]:
        """The parts that look at a teacher, by slot; empty slots are left out."""
        found = {slot: getattr(self, slot) for slot in ("distillation", "hidden", "attention", "graft")}
        return {slot: part for slot, part in found.items() if part is not None}

    def pace(self, progress: float) -> float:
        """Learning rate as a fraction of its peak at a progress in [0, 1]; a graft may start it anew."""
        return self.optimizer.factor(self.graft.paced(progress) if self.graft is not None else progress)


@dataclass(frozen=True)
class RunSpec:
    """Everything needed to repeat a run; the same spec and seed give the same masks."""

    recipe: str
    model: str
    task: TaskSpec
    parts: LineUp
    training: Training = field(default_factory=Training)
    keep: float = 1.0
    seed: int = 0
    teacher: str = ""
    stages: tuple[Stage, ...] = ()
    name: str = ""
    schema_version: int = SCHEMA_VERSION
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_keep(self.recipe, self.keep)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**31:
            raise SpecError(f"seed is {self.seed!r}; allowed is a whole number in [0, 2147483647].")
        if not isinstance(self.model, str) or not self.model.strip() or len(self.model) > 4096:
            raise SpecError(
                f"model is {str(self.model)[:60]!r}; allowed is bundled:text, bundled:digits, run:ID, a "
                "folder or a hub id."
            )
        check_name(self.name)
        workers = self.parts.lookahead.workers if self.parts.lookahead is not None else 1
        if workers > self.training.batch:
            raise SpecError(
                f"lookahead.workers is {workers}; they share a batch of {self.training.batch} and must not "
                "be more than its examples: take fewer workers or a larger training.batch."
            )
        if self.stages:
            stages.legs(self)  # each must be a run of its own
        else:
            self._check_teacher()

    def _check_teacher(self) -> None:
        followers = self.parts.followers()
        if self.teacher and not followers:
            raise SpecError(
                f"teacher is {self.teacher!r} but no distillation loss uses it; add one or drop the teacher."
            )
        needing = [slot for slot, part in followers.items() if part.needs_teacher]
        if needing and not self.teacher:
            raise SpecError(
                f"{needing[0]} needs a teacher: give a fine-tuned model, as run:ID or a folder, or drop it."
            )


def _check_keep(recipe: str, keep: Any) -> None:
    if (
        isinstance(keep, bool)
        or not isinstance(keep, int | float)
        or not math.isfinite(keep)
        or not 0 < keep <= 1
    ):
        raise SpecError(
            f"keep is {keep!r}; allowed is a number in (0, 1], the fraction of prunable weights that stays: "
            "0.03 keeps 3 %."
        )
    if recipe == "dense" and keep != 1:
        raise SpecError(
            f"keep is {keep!r} for the recipe dense, which prunes nothing; allowed is 1, or another recipe."
        )


def check_name(name: str) -> None:
    """Refuses a display name that would break a line or a page.

    Raises:
        SpecError: the name is not text, has more than 80 characters, or holds a control character, < or >.
    """
    if not isinstance(name, str):
        raise SpecError(f"name is {name!r}; allowed is a text of up to 80 characters.")
    if len(name) > 80:
        raise SpecError(
            f"name has {len(name)} characters and begins {name[:20]!r}; allowed are up to 80: shorten it."
        )
    bad = sorted({c for c in name if c in "<>" or not c.isprintable()})
    if bad:
        raise SpecError(
            f"name is {name!r} and holds {', '.join(map(repr, bad))}; allowed are printable characters "
            "without < and >."
        )


def installed_versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes, read without importing them."""
    found = {}
    for package in ("torch", "transformers", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
