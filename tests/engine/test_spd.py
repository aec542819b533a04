"""SPD in the engine: the grafted forward, what is trained, nested masks, and its three stages in a run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file
from torch import nn

from analysis import spec as specs
from analysis.engine import grafting, matcher, terms, train
from analysis.engine.setup import Setup, prepare
from analysis.engine.sites import find_sites
from analysis.errors import SpecError
from analysis.parts.graft import Graft
from analysis.recipes import build
from analysis.store import arrays
from tests.engine.conftest import SPECIAL, WORDS, save_tokenizer
from tests.engine.test_train import Control, Launch, events, launch, masks

__all__ = ["launch"]  # a fixture of this module too
ROWS = np.arange(8)
Prepare = Callable[..., Setup]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer BERT with a head and without dropout, to be pruned and to teach."""
    folder = tmp_path_factory.mktemp("models") / "teacher"
    save_tokenizer(folder)
    torch.manual_seed(11)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = hf.BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        max_position_embeddings=48,
        initializer_range=0.2,
        **size,
        **still,
    )
    hf.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture
def setup(
    tmp_path: Path, teacher: Path, sentences: list[dict[str, Any]], write: Callable[..., Path]
) -> Prepare:
    """Prepares twenty steps of spd with a given teacher, its student moved away from it."""
    data = write("data.jsonl", sentences * 3)

    def make(moved: float = 0.1, keep: float = 0.25, **settings: Any) -> Setup:
        plan = {"training.precision": "fp32", "training.batch": 8, "optimizer.lr": 0.01}
        plan |= {k.replace("__", "."): v for k, v in settings.items()}
        spec = build("spd", str(teacher), str(data), keep=keep, steps=20, settings=plan, teacher=str(teacher))
        made = prepare(spec, tmp_path)
        torch.manual_seed(3)
        with torch.no_grad():
            for site in made.pruner.sites:
                site.weight.add_(moved * torch.randn_like(site.weight))
        made.model.train()
        return made

    return make


def grafted(s: Setup, *draws: bool) -> Setup:
    assert s.graft is not None
    s.graft.draws = [[d] for d in draws]
    return s


def forward(s: Setup, model: nn.Module | None = None) -> Any:
    batch = s.data.train.batch(ROWS)
    with torch.no_grad():
        return (model or s.model)(**batch, **matcher.wanted(s.spec.parts))


def test_without_student_layers_the_graft_is_the_teacher_bit_for_bit(setup: Prepare) -> None:
    s = setup(graft__rate=0, graft__plan="none", graft__begin=1)
    assert s.graft is not None and s.teacher is not None
    s.graft.draw(0.5)
    values = terms.losses(s, ROWS)
    assert values["hidden"] == 0 and values["attention"] == 0 and values["distillation"] > 0
    assert torch.equal(forward(s).logits, forward(s, s.teacher).logits)
    train._backward(s, 1.0, ROWS, 8)
    assert all(p.grad is None for p in s.model.parameters())
    before = {n: v.clone() for n, v in s.model.state_dict().items()}
    train.one_step(s, ROWS, 0.5, 10)
    assert all(torch.equal(v, before[n]) for n, v in s.model.state_dict().items())


def test_with_student_layers_alone_training_computes_what_evaluation_does(setup: Prepare) -> None:
    s = setup(graft__rate=1)
    assert s.graft is not None and s.teacher is not None
    s.graft.draw(0.0)
    training = forward(s).logits
    s.model.eval()
    assert torch.equal(forward(s).logits, training)
    assert not torch.equal(training, forward(s, s.teacher).logits)


def test_evaluation_is_the_student_whatever_is_drawn(setup: Prepare) -> None:
    found = []
    for rate in (0.0, 0.5, 1.0):
        s = setup(graft__rate=rate)
        assert s.graft is not None
        s.graft.draw(0.0)
        s.model.eval()
        found.append(forward(s).logits)
    assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])


@pytest.mark.parametrize("draws", [(True, False), (False, True), (True, True), (False, False)])
def test_the_graft_is_the_network_of_the_drawn_layers(setup: Prepare, draws: tuple[bool, bool]) -> None:
    """Logits, hidden states and attention maps are those of a plain model put together by hand."""
    s = grafted(setup(), *draws)
    assert s.teacher is not None
    forward(s, s.teacher)
    out = forward(s)
    mixed = hf.BertForSequenceClassification.from_pretrained(s.spec.model, attn_implementation="eager").eval()
    for number, student in enumerate(draws):
        for site in (x for x in s.pruner.sites if x.layer == number and student):
            mixed.get_submodule(site.name).weight.data.copy_(site.weight)
    plain = forward(s, mixed)
    assert len(out.hidden_states) == 3 and len(out.attentions) == 2
    for one, two in zip(
        (out.logits, *out.hidden_states, *out.attentions),
        (plain.logits, *plain.hidden_states, *plain.attentions),
        strict=True,
    ):
        assert torch.equal(one, two)


def test_a_layer_that_is_not_drawn_has_no_gradient_and_momentum_does_not_move_it(setup: Prepare) -> None:
    s = setup(graft__rate=1)
    train.one_step(s, ROWS, 0.1, 2)  # momentum for all
    grafted(s, True, False)
    train._backward(s, 1.0, ROWS, 8)
    layers: dict[int, list[nn.Parameter]] = {0: [], 1: []}
    for name, p in s.model.named_parameters():
        if ".layer." in name:
            layers[int(name.split(".layer.")[1][0])].append(p)
    assert [sum(p.grad is None for p in layers[n]) for n in (0, 1)] == [0, len(layers[1])]
    before = [p.detach().clone() for p in layers[1]]
    s.optimizer.step()
    assert all(torch.equal(p, x) for p, x in zip(layers[1], before, strict=True))


def test_only_layers_are_trained_and_counted_in_the_gradient(setup: Prepare) -> None:
    s = setup()
    trained = {id(p) for g in s.optimizer.param_groups for p in g["params"]}
    inside = {id(p) for n, p in s.model.named_parameters() if ".layer." in n}
    assert trained == inside and len(inside) == 32
    assert {n for n, p in s.model.named_parameters() if not p.requires_grad} == {
        n for n, _ in s.model.named_parameters() if ".layer." not in n
    }
    loose = setup(graft__frozen=False)
    free = {n for n, p in loose.model.named_parameters() if p.requires_grad and ".layer." not in n}
    assert {n.split(".")[-2] for n in free} == {"dense", "classifier"}  # embeddings are the optimizer's knob


def test_names_are_those_of_the_plain_model(setup: Prepare) -> None:
    s = setup()
    plain = hf.BertForSequenceClassification.from_pretrained(s.spec.model)
    assert s.graft is not None
    s.pruner.finalise()
    assert sorted(s.model.state_dict()) == sorted(plain.state_dict())
    assert len(list(s.model.parameters())) == len(list(plain.parameters()))
    s.graft.detach()
    assert not any("forward" in vars(m) for m in s.model.modules())


def test_draws_are_as_frequent_as_asked() -> None:
    torch.manual_seed(0)
    students = np.array([sum(map(sum, grafting.drawn(0.8, 12))) for _ in range(10_000)])
    assert students.mean() == pytest.approx(9.6, abs=3 * 1.386 / 100)
    assert students.std() == pytest.approx(1.386, abs=0.04)
    assert (students == 12).mean() == pytest.approx(0.0687, abs=0.008)
    assert (grafting.drawn(0.0, 2), grafting.drawn(1.0, 2)) == ([[False], [False]], [[True], [True]])


def test_one_draw_serves_all_pieces_of_a_batch(setup: Prepare) -> None:
    for seed in range(4):
        s = setup(graft__rate=0.5, training__accumulate=4)
        assert s.graft is not None
        torch.manual_seed(seed)
        s.graft.draw(0.0)
        draws = [d[0] for d in s.graft.draws]
        train._backward(s, 1.0, ROWS, 8)
        with_gradient = {x.layer for x in s.pruner.sites if x.weight.grad is not None}
        assert with_gradient == {n for n, student in enumerate(draws) if student}


def test_masks_are_nested_exact_and_zero_after_every_step(setup: Prepare) -> None:
    s = setup(optimizer__warmup=0)
    pruner = s.pruner
    before, changed = pruner.masks(), 0
    for step in range(20):
        progress = step / 20
        pruner.refresh(progress)
        now = pruner.masks()
        assert all(not (b & ~a).any() for a, b in zip(before, now, strict=True))
        wanted = pruner.scheduled(progress)
        for mask in now:
            assert int(mask.count_nonzero()) == math.floor(wanted * mask.numel() + 1e-6)
        changed += any(not torch.equal(a, b) for a, b in zip(before, now, strict=True))
        train.one_step(s, ROWS, progress, step)
        for site, mask in zip(pruner.sites, now, strict=True):
            weight = site.module.weight
            assert isinstance(weight, torch.Tensor)
            assert int(weight[~mask].count_nonzero()) == 0 and int(weight[mask].count_nonzero()) > 0
        before = now
    assert changed == 7 and [float(m.float().mean()) for m in before] == [0.25] * 12


def test_a_copy_that_is_not_pruned_has_nothing_to_learn(setup: Prepare) -> None:
    s = setup(moved=0, keep=1.0, graft__rate=1, distillation__type="none")
    before = {n: v.clone() for n, v in s.model.state_dict().items()}
    for step in range(3):
        assert train.one_step(s, ROWS, step / 20, step) | {"task": 0} == {
            "task": 0,
            "hidden": 0,
            "attention": 0,
        }
    assert all(torch.equal(v, before[n]) for n, v in s.model.state_dict().items())
    soft = setup(moved=0, keep=1.0, graft__rate=1)
    train._backward(soft, 1.0, ROWS, 8)
    assert max(float(p.grad.abs().max()) for p in soft.model.parameters() if p.grad is not None) < 1e-6


def test_a_run_trains_the_layers_alone_and_tells_its_stages(launch: Launch) -> None:
    dense = launch("dense", steps=10)
    train.execute(dense, Control())
    path = launch("spd", teacher=f"run:{dense.name}", training__snapshots=5, optimizer__warmup=0)
    train.execute(path, Control())
    given, made = (load_file(p / "model" / "model.safetensors") for p in (dense, path))
    assert set(given) == set(made)
    moved = {name for name in given if not torch.equal(given[name], made[name])}
    assert moved == {name for name in given if ".layer." in name}
    taken = [arrays.load_masks(file) for file in sorted((path / "masks").glob("*.npz"))]
    last = taken[-1]
    for later, earlier in zip(taken[1:], taken[:-1], strict=True):
        assert all(not (later[n] & ~earlier[n]).any() for n in later)
    for settled in taken[1:]:  # the last cut comes before 0.4 of the run
        assert all(np.array_equal(settled[n], last[n]) for n in last)
    assert [(e["name"], e["step"], e["rate"]) for e in events(path, "graft")] == [
        ("prune", 0, 0.8),
        ("ramp", 8, 0.8),
        ("tune", 12, 1.0),
    ]
    losses = events(path, "loss")
    assert [row["graft"] for row in losses[:14]] == pytest.approx([0.8] * 9 + [0.85, 0.9, 0.95, 1.0, 1.0])
    rates = [row["lr"] for row in losses]
    assert rates[0] == rates[8] == 0.01 and rates[7] == pytest.approx(0.01 / 8)
    assert set(losses[0]["terms"]) == {"task", "distillation", "hidden", "attention"}
    assert losses[5]["loss"] == pytest.approx(sum(v for k, v in losses[5]["terms"].items() if k != "task"))


def test_a_run_that_makes_its_teacher_tells_that_stage_too(launch: Launch) -> None:
    path = launch("spd")
    with pytest.raises(train.Stopped):
        train.execute(path, Control(stop_at=11))
    train.execute(path, Control())
    stages, grafts = ([(e["name"], e["step"]) for e in events(path, kind)] for kind in ("stage", "graft"))
    assert stages == [("teach", 0), ("distil", 5), ("distil", 11)]  # gone on with, where the ramp begins
    assert grafts == [("prune", 5), ("ramp", 11), ("tune", 14)]
    assert "graft" not in events(path, "loss")[0] and events(path, "loss")[5]["graft"] == 0.8


@pytest.mark.slow
@pytest.mark.parametrize("score", ["Movement", "Random", "Flow"])
def test_progressive_distillation_goes_with_other_scores(launch: Launch, score: str) -> None:
    dense = launch("dense", steps=4)
    train.execute(dense, Control())
    plan = {"score__type": score, "graft__rate": 0.5, "teacher": f"run:{dense.name}"}
    straight, broken = launch("spd", **plan), launch("spd", **plan)
    train.execute(straight, Control())
    with pytest.raises(train.Stopped):
        train.execute(broken, Control(stop_at=5))
    train.execute(broken, Control())
    assert masks(straight) == masks(broken)
    weights = [(p / "model" / "model.safetensors").read_bytes() for p in (straight, broken)]
    assert weights[0] == weights[1]
    assert events(straight, "eval")[-1]["keep_prunable"] == 0.25
    assert masks(straight) != masks_of(launch, "spd", {**plan, "score__type": "Magnitude"})


def masks_of(launch: Launch, recipe: str, plan: dict[str, Any]) -> dict[str, bytes]:
    path = launch(recipe, **plan)
    train.execute(path, Control())
    return masks(path)


@pytest.mark.parametrize("recipe", ["movement", "soft_movement", "l0", "block_movement", "powerprop"])
def test_any_recipe_can_be_grafted_and_begins_as_its_teacher(launch: Launch, recipe: str) -> None:
    dense = launch("dense", steps=10)
    train.execute(dense, Control())
    path = launch(recipe, graft__type="Graft", teacher=f"run:{dense.name}", steps=10, training__accumulate=2)
    spec = specs.from_dict(json.loads((path / "spec.json").read_text()))
    s = prepare(spec, path.parent)
    assert s.teacher is not None
    s.model.eval()
    batch = s.data.train.batch(ROWS)
    if recipe not in ("l0", "powerprop"):
        assert torch.equal(s.model(**batch).logits, s.teacher(**batch).logits)
    train.execute(path, Control())
    assert all(math.isfinite(row["loss"]) for row in events(path, "loss")[:-1])
    given, made = (load_file(p / "model" / "model.safetensors") for p in (dense, path))
    assert torch.equal(given["classifier.weight"], made["classifier.weight"])


SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}


def family(kind: str) -> tuple[type[Any], Any]:
    text = {"vocab_size": 50, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    match kind:
        case "albert":
            return hf.AlbertForSequenceClassification, hf.AlbertConfig(
                **SIZE, **text, embedding_size=8, classifier_dropout_prob=0.0
            )
        case "distilbert":
            plain = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "vocab_size": 50}
            calm = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
            return hf.DistilBertForSequenceClassification, hf.DistilBertConfig(**plain, **calm)
        case "roberta":
            return hf.RobertaForSequenceClassification, hf.RobertaConfig(**SIZE, **text)
        case "vit":
            return hf.ViTForImageClassification, hf.ViTConfig(
                **SIZE, image_size=8, patch_size=4, num_channels=1
            )
        case _:
            plain = {**SIZE, "num_key_value_heads": 2, "vocab_size": 50, "pad_token_id": 0}
            return hf.LlamaForSequenceClassification, hf.LlamaConfig(**plain)


@pytest.mark.parametrize("kind", ["albert", "distilbert", "roberta", "vit", "llama"])
def test_every_family_is_grafted_layer_by_layer(kind: str) -> None:
    made, config = family(kind)
    torch.manual_seed(0)
    student, teacher = made(config).train(), made(config).eval()
    inputs = {"input_ids": torch.arange(2, 14).view(2, 6)}
    if kind == "vit":
        inputs = {"pixel_values": torch.rand(2, 1, 8, 8)}
    for model in (student, teacher):
        model.set_attn_implementation("eager")
    part = Graft(rate=0.5)
    graft = grafting.attach(part, student, teacher, find_sites(student), copy=True)
    assert graft is not None and len(graft.own) * graft.passes == 3
    with torch.no_grad():
        for block in graft.own:
            for p in block.parameters():
                p.add_(0.05 * torch.randn_like(p))
    show = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        goal, alone = teacher(**inputs, **show), student.eval()(**inputs)
        student.train()
        for p in (0.0, 1.0):
            graft.draws = grafting.drawn(p, len(graft.own), graft.passes)
            out = student(**inputs, **show)
            assert len(out.hidden_states) == 4 and len(out.attentions) == 3
            assert torch.equal(out.logits, (alone if p else goal).logits)
        graft.draws = [[True, False, False]] if graft.passes == 3 else [[True], [False], [False]]
        mixed = student(**inputs, **show)
    same = [torch.equal(a, b) for a, b in zip(mixed.hidden_states, goal.hidden_states, strict=True)]
    assert same == [True, False, False, False]
    assert not torch.equal(mixed.logits, alone.logits)


def test_a_teacher_of_another_shape_is_refused() -> None:
    config = hf.BertConfig(**SIZE, vocab_size=50)
    student = hf.BertForSequenceClassification(config)
    for change in ({"num_hidden_layers": 2}, {"intermediate_size": 64}):
        teacher = hf.BertForSequenceClassification(hf.BertConfig(**{**SIZE, **change}, vocab_size=50))
        with pytest.raises(SpecError, match=r"graft puts the teacher's layers .* is \(.*same architecture"):
            grafting.attach(Graft(), student, teacher, find_sites(student), copy=True)
