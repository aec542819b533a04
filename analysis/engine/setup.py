"""From a spec to everything a run works with, on the right device."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from analysis.engine import embedding, grafting, matcher, models, refill, shares
from analysis.engine.data import TaskData, load_task
from analysis.engine.guiding import Guide, guide_of
from analysis.engine.hardware import device_of, precision_of
from analysis.engine.lookahead import Lookahead
from analysis.engine.measure import Probe
from analysis.engine.pruner import Pruner
from analysis.engine.sites import Counts, Site, count_parameters, find_sites
from analysis.engine.splits import Split
from analysis.engine.stages import Carry
from analysis.engine.steer import Steer
from analysis.engine.tutor import Tutor
from analysis.errors import SpecError
from analysis.parts.levels import MultiLevel
from analysis.parts.schedules import Constant, Cubic
from analysis.parts.selfteach import SelfDistillation
from analysis.spec import Leg, RunSpec, legs

GLANCE = 256  # development examples of an evaluation during the run


@dataclass
class Setup:
    """What a run works with.

    Attributes:
        leg: the stage of the run that this is; the first and only one of most.
        spec: the run of this stage alone.
        carry: what earlier stages left.
        tokenizer: tokenizer or image processor of the model, or None.
        data: the task.
        model: the model with gates attached.
        teacher: the model whose outputs are followed, or None.
        maps: learned maps between hidden states of student and teacher, by number of the state.
        pruner: masks of all sites.
        counts: parameters under each denominator.
        optimizer: over everything that is trained.
        graft: the student's layers among the teacher's, or None.
        guide: collects what a score that watches may see, or None for the whole gradient.
        lookahead: where the gradient is evaluated, or None for the weights themselves.
        steer: controller of the penalty weight, or None.
        tutor: makes the student of an evaluation the teacher, or None.
        start: pre-trained weights of every site, on the CPU.
        glance: a part of the development split, for evaluations during the run.
        device: where it computes.
        precision: "fp32" or "bf16".
    """

    leg: Leg
    spec: RunSpec
    carry: Carry
    tokenizer: object
    data: TaskData
    model: nn.Module
    teacher: nn.Module | None
    maps: nn.ModuleDict
    pruner: Pruner
    counts: Counts
    optimizer: torch.optim.Optimizer
    graft: grafting.Grafting | None
    guide: Guide | None
    lookahead: Lookahead | None
    steer: Steer | None
    tutor: Tutor | None
    start: list[torch.Tensor]
    glance: Split
    device: torch.device
    precision: str


def prepare(asked: RunSpec, runs: Path, leg: Leg | None = None, carry: Carry | None = None) -> Setup:
    """Loads model and data, finds the sites, attaches the masks, and builds the optimizer.

    Args:
        asked: what to run.
        runs: folder in which ``run:ID`` is looked up.
        leg: the stage of it; None for the first.
        carry: what earlier stages left; None for nothing.

    Returns:
        a setup whose model still computes what the loaded model did (with hard-concrete gates, nearly).

    Raises:
        LabError: model or data are missing or cannot be used.
    """
    leg, carry = leg or legs(asked)[0], carry or Carry()
    spec = leg.spec
    tokenizer = models.load_tokenizer(spec.model, runs=runs)
    data = load_task(spec.task, tokenizer)
    model = models.load_model(spec.model, data, spec.seed, runs=runs)
    teacher, tutor = _teacher(leg, carry, data, runs)
    matcher.show_attention(spec.parts, model, teacher)
    device = device_of(spec.training)
    model.to(device)
    if teacher is not None:
        teacher.to(device).requires_grad_(False)
    if spec.parts.optimizer.freeze_embeddings:
        freeze_embeddings(model)
    sites = find_sites(model)
    counts = count_parameters(model, sites)
    start = [s.weight.detach().float().cpu().clone() for s in sites]
    held = _begin(model, sites, leg, carry, data, runs)
    graft = grafting.attach(spec.parts.graft, model, teacher, sites, leg.stage.start == "pre-trained")
    pruner = Pruner.attach(sites, spec.parts, spec.keep, spec.seed, held)
    if spec.parts.score.on_demand:
        pruner.start, pruner.measure = start, _probe(spec, model, data).measure
    maps = matcher.projections(spec.parts.hidden, model, teacher).to(device)
    optimizer, guide = _optimizer(spec, model, pruner, maps), guide_of(spec.parts, pruner)
    return Setup(
        leg=leg,
        spec=spec,
        carry=carry,
        tokenizer=tokenizer,
        data=data,
        model=model,
        teacher=teacher,
        maps=maps,
        pruner=pruner,
        counts=counts,
        optimizer=optimizer,
        graft=graft,
        guide=guide,
        lookahead=_lookahead(spec, model, optimizer, guide),
        steer=_steer(spec),
        tutor=tutor,
        start=start,
        glance=_glance(spec, tokenizer),
        device=device,
        precision=precision_of(spec.training, device, model),
    )


def _glance(spec: RunSpec, tokenizer: object) -> Split:
    some = dataclasses.replace(spec.task, eval_rows=min(GLANCE, spec.task.eval_rows or GLANCE))
    return load_task(some, tokenizer).validation


def _begin(
    model: nn.Module, sites: list[Site], leg: Leg, carry: Carry, data: TaskData, runs: Path
) -> list[torch.Tensor]:
    """Gives a freshly loaded model the weights with which a stage begins; returns which of them may be kept,
    per site, or nothing for all.
    """
    if any(stage.begin != "nothing" for stage in leg.asked.stages):
        refill.check(model, sites)  # now, and not when the stages before it are done
    if leg.stage.start == "teacher":
        given = leg.asked.teacher
        source = (
            models.load_model(given, data, leg.spec.seed, runs=runs).state_dict() if given else carry.tuned
        )
        assert source is not None
        matcher.same_shapes("the run starts with its teacher's weights", model, source, given)
        model.load_state_dict(source)
    elif leg.stage.start == "previous" and carry.previous is not None:
        model.load_state_dict(carry.previous)
    held = carry.masks if leg.stage.start == "previous" else []
    if leg.stage.begin != "nothing":
        held = refill.fill(model, sites, leg.spec.seed, "zero" if leg.stage.begin == "fill" else "mean")
    embedding.attach(leg.spec.parts.embedding, model)
    return held


def foresee(s: Setup, later: Sequence[Leg]) -> None:
    """Looks whether later stages fit the model, so that a run does not fail when half of it is done.

    Raises:
        SpecError: units or losses of a later stage ask for what the model does not have.
    """
    shapes = [site.shape for site in s.pruner.sites]
    for leg in later:
        matcher.check_attention(leg.spec.parts, s.model)
        embedding.check(leg.spec.parts.embedding, s.model)
        if not isinstance(leg.spec.parts.units, MultiLevel):  # these depend on what is left by then
            leg.spec.parts.units.groups(shapes)


def _teacher(leg: Leg, carry: Carry, data: TaskData, runs: Path) -> tuple[nn.Module | None, Tutor | None]:
    spec = leg.spec
    part = spec.parts.distillation
    own = part if isinstance(part, SelfDistillation) else None
    if own is not None and data.num_labels < 2:
        raise SpecError(
            "distillation is SelfDistillation, which weighs classes by how sure the student is, but the task "
            "predicts a number; choose another loss or another task."
        )
    if not spec.teacher and own is None:
        return None, None
    made = {"previous": carry.previous, "fine-tuned": carry.tuned}.get(leg.stage.teacher)
    # Without a fine-tuned teacher the model itself holds the place until the first snapshot.
    name = spec.model if made is not None or not spec.teacher else spec.teacher
    model = models.load_model(name, data, spec.seed, runs=runs).eval()
    if made is not None:
        model.load_state_dict(made)
    return model, Tutor(model, own, ready=bool(spec.teacher)) if own is not None else None


def _probe(spec: RunSpec, model: nn.Module, data: TaskData) -> Probe:
    examples, temperature = spec.parts.score.sample()
    size = -(-spec.training.batch // spec.training.accumulate)
    return Probe(model, data.train, data.kind, size, spec.seed, examples, temperature)


def _steer(spec: RunSpec) -> Steer | None:
    penalty = spec.parts.penalty
    if penalty is None or not penalty.steer or not penalty.weight or spec.keep >= 1:
        return None
    schedule = spec.parts.schedule
    path = Cubic() if isinstance(schedule, Constant) else schedule
    return Steer(penalty.weight, spec.keep, path, float(getattr(spec.parts.score, "lr", 1.0)))


def freeze_embeddings(model: nn.Module) -> None:
    """Leaves everything below a module called embeddings, and every embedding table, as it was
    pre-trained.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) or name.rsplit(".", 1)[-1] == "embeddings":
            module.requires_grad_(False)


def _optimizer(spec: RunSpec, model: nn.Module, pruner: Pruner, maps: nn.ModuleDict) -> torch.optim.Optimizer:
    scores = pruner.learned_scores()
    own = {id(s) for s in [*scores, *shares.thetas_of(pruner)]}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    trained += list(maps.parameters())
    score_lr = float(getattr(spec.parts.score, "lr", spec.parts.optimizer.lr))
    by_gates = {id(p) for p in pruner.decaying()}
    decayed = [p for p in trained if p.ndim >= 2 and id(p) not in by_gates]
    undecayed = [p for p in trained if p.ndim < 2 or id(p) in by_gates]
    made = spec.parts.optimizer.build(decayed, undecayed, scores, score_lr)
    shares.train(made, spec.parts.select, pruner, score_lr)
    return made


def _lookahead(
    spec: RunSpec, model: nn.Module, optimizer: torch.optim.Optimizer, guide: Guide | None
) -> Lookahead | None:
    if spec.parts.lookahead is None:
        return None
    clip = partial(spec.parts.optimizer.clip_gradients, optimizer)
    unheard = guide.closed if guide is not None else nullcontext
    return Lookahead(spec.parts.lookahead, optimizer, model, clip, unheard)
