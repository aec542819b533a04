"""The spec: JSON and back, the grammar of settings, and one sentence for everything that is not allowed."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import spec
from analysis.errors import SpecError
from analysis.parts import LOSSES, SLOTS
from analysis.parts.base import checked, knobs
from analysis.parts.optim import SGD
from analysis.parts.schedules import Cubic
from analysis.recipes import RECIPES, build, card

EVERY_PART = [part for slot in (*SLOTS.values(), *LOSSES.values()) for part in slot.values()]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("task", ["bundled:opinions", "bundled:digits", "sst2"])
def test_round_trip(recipe: str, task: str) -> None:
    made = build(recipe, "bundled:text", task, seed=3, name="Müller 🎓")
    text = json.dumps(spec.to_dict(made))
    assert spec.from_dict(json.loads(text)) == made
    assert json.loads(text)["schema_version"] == 1


def test_fingerprints_do_not_change() -> None:
    """Renaming a field or its default would orphan every run that people have; these names are frozen."""
    found = {name: spec.fingerprint(build(name, "m", "t", seed=0)) for name in RECIPES}
    assert found == {
        "dense": "819751e2",
        "random": "dc0551fb",
        "magnitude": "3623734a",
        "movement": "7a0cd176",
        "soft_movement": "2425741f",
        "l0": "63cad607",
        "block_movement": "03ca412b",
        "gradient_flow": "c67803e1",
        "pins": "877db936",
        "powerprop": "00ca9535",
        "compute_optimal": "318279bf",
        "extrapolation": "29c94c09",
        "spd": "c2880685",
        "grain": "2aafbc8b",
        "pela": "88737688",
        "mlpruning": "73dc2693",
    }


def test_fingerprints_of_variants_do_not_change() -> None:
    found = {
        variant: spec.fingerprint(build(name, "m", "t", settings={"stages.variant": variant}))
        for name, recipe in RECIPES.items()
        for variant in recipe.variants
    }
    assert found == {"filled": "68bc2a1b", "filled-around-mean": "abdcedec"}


def test_fingerprint_names_what_is_computed() -> None:
    base = build("movement", "m", "t", keep=0.1)
    same = build("movement", "m", "t", keep=0.1, name="another label", settings={"score.lr": 0.05})
    assert spec.fingerprint(base) == spec.fingerprint(same)
    changed = [
        build("movement", "m", "t", keep=0.2),
        build("movement", "m", "t", keep=0.1, seed=1),
        build("movement", "m", "t", keep=0.1, settings={"score.lr": 0.06}),
        build("movement", "m", "t", keep=0.1, settings={"task.text": "x"}),
        build("magnitude", "m", "t", keep=0.1),
    ]
    assert len({spec.fingerprint(s) for s in (base, *changed)}) == 6


@pytest.mark.parametrize("part", EVERY_PART)
def test_every_field_has_help_and_an_allowed_default(part: type) -> None:
    for k in knobs(part):
        assert len(k.help) > 5 and k.allowed
        assert checked(k, k.default, part.__name__) == k.default
    part()


@pytest.mark.parametrize("keep", [0, -0.1, 1.5, float("nan"), float("inf"), True, "0.1", None])
def test_keep_outside_its_range(keep: Any) -> None:
    data = spec.to_dict(build("movement", "m", "t"))
    sentence = re.escape(f"keep is {keep!r}; allowed is a number in (0, 1]")
    with pytest.raises(SpecError, match=sentence):
        spec.from_dict({**data, "keep": keep})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version 2, written by a newer version .*update the program"),
        ({"schema_version": "1"}, "schema_version is '1'; allowed is a whole number"),
        ({"surprise": 1}, "unknown key 'surprise'; its keys are"),
        ({"recipe": 3}, "recipe is 3; allowed is a text"),
        ({"seed": -1}, "seed is -1; allowed is a whole number"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"model": ""}, "model is ''; allowed is"),
        ({"name": "a" * 300}, "name has 300 characters .*allowed are up to 80"),
        ({"name": "<img src=x onerror=alert(1)>"}, "holds '<', '>'; allowed are printable"),
        ({"name": "two\nlines"}, "holds '.n'"),
        ({"task": []}, r"task is \[\]; allowed is a JSON object"),
        (
            {"task": {"source": "t", "colour": "red"}},
            "TaskSpec has no field 'colour'; its fields are: source",
        ),
        ({"task": {"source": " "}}, "TaskSpec.source is empty"),
        (
            {"task": {"source": "t", "max_length": 1}},
            r"TaskSpec.max_length is 1; allowed is a whole number in \[4, 8192\]",
        ),
        ({"training": {"steps": 0}}, "Training.steps is 0"),
        ({"training": {"batch": 4, "accumulate": 8}}, "Training.accumulate is 8; it cuts a batch of 4"),
        ({"teacher": "run:x"}, "teacher is 'run:x' but no distillation loss uses it"),
    ],
)
def test_bad_specs(change: dict[str, Any], message: str) -> None:
    data = spec.to_dict(build("movement", "m", "t"))
    with pytest.raises(SpecError, match=message):
        spec.from_dict({**data, **change})


@pytest.mark.parametrize(
    ("slot", "value", "message"),
    [
        (
            "score",
            {"type": "Luck"},
            "parts.score is 'Luck'; allowed types are Magnitude, Norm, Random, Movement, GateLogit",
        ),
        ("score", {"type": "Movement", "lr": 0}, r"Movement.lr is 0; allowed is a number in \(0, 10\]"),
        ("score", {"type": "Movement", "lr": True}, "Movement.lr is True"),
        ("score", "Movement", "parts.score is 'Movement'"),
        ("select", {"type": "TopK", "scope": "galactic"}, "allowed is one of 'local', 'global'"),
        ("schedule", {"type": "Cubic", "warmup": 0.8, "cooldown": 0.3}, "together they must stay below 1"),
        ("gravity", {}, "unknown slot 'gravity'"),
    ],
)
def test_bad_parts(slot: str, value: Any, message: str) -> None:
    data = copy.deepcopy(spec.to_dict(build("movement", "m", "t")))
    data["parts"][slot] = value
    with pytest.raises(SpecError, match=message):
        spec.from_dict(data)


ATOMS = st.none() | st.booleans() | st.floats() | st.text()


@given(st.recursive(ATOMS, lambda c: st.lists(c) | st.dictionaries(st.text(), c)))
def test_any_json_is_refused_with_a_sentence(data: Any) -> None:
    with pytest.raises(SpecError) as caught:
        spec.from_dict(data)
    assert "\n" not in str(caught.value)


def test_settings_grammar() -> None:
    made = build(
        "movement",
        "m",
        "t",
        settings={
            "score.lr": "0.2",
            "select.scope": "global",
            "schedule.warmup": "0.1",
            "task.text": "sentence1",
            "task.pair": "sentence2",
            "training.batch": "16",
            "optimizer.freeze_embeddings": "false",
            "penalty.weight": "7",
            "penalty.type": "SigmoidPenalty",
        },
    )
    assert (made.parts.score.lr, made.parts.select.scope, made.parts.schedule.warmup) == (0.2, "global", 0.1)
    assert (made.task.text, made.task.pair, made.training.batch) == ("sentence1", "sentence2", 16)
    assert made.parts.optimizer.freeze_embeddings is False
    assert made.parts.penalty is not None and made.parts.penalty.weight == 7


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", 1, "'lr' is not a setting; allowed is PART.FIELD"),
        ("score.speed", 1, "Movement has no field 'speed'; its fields are: lr"),
        ("score.lr", "fast", "Movement.lr is 'fast'; allowed is a number"),
        ("training.batch", "1.5", "Training.batch is '1.5'; allowed is a whole number"),
        ("penalty.weight", 1, "penalty is empty here; fill it first with penalty.type"),
        ("score.type", "none", "score.type is 'none'; allowed is one of"),
        ("optimizer.freeze_embeddings", "maybe", "allowed is true or false"),
    ],
)
def test_bad_settings(name: str, value: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build("movement", "m", "t", settings={name: value})


def test_unknown_recipe_and_card() -> None:
    with pytest.raises(SpecError, match="recipe is 'magic'; allowed is one of dense, random"):
        build("magic", "m", "t")
    with pytest.raises(SpecError, match="cards exist for dense"):
        card("../../README")
    assert card("movement").startswith("#")


def test_teacher_brings_distillation() -> None:
    made = build("magnitude", "m", "t", teacher="run:dense-1")
    assert made.parts.distillation is not None
    taught = made.parts.distillation
    assert (made.parts.task.weight, taught.weight, taught.temperature) == (0.1, 0.9, 2.0)


def test_fields_of_one_part_are_set_together() -> None:
    # 0.9 does not fit the default cool-down of 0.4, nor 0.05 the default warm-up's sum; together they do.
    wanted = {"schedule.warmup": 0.9, "schedule.cooldown": "0.05"}
    schedule = build("movement", "m", "t", settings=wanted).parts.schedule
    assert schedule == Cubic(warmup=0.9, cooldown=0.05)
    assert build("movement", "m", "t", settings=dict(reversed(wanted.items()))).parts.schedule == schedule


def test_an_empty_look_ahead_is_not_written_and_a_filled_one_comes_back() -> None:
    plain = build("movement", "m", "t")
    assert "lookahead" not in spec.to_dict(plain)["parts"]
    ahead = build("movement", "m", "t", settings={"lookahead.rho": "0.25", "lookahead.type": "Extrapolation"})
    assert spec.to_dict(ahead)["parts"]["lookahead"]["rho"] == 0.25
    assert spec.from_dict(json.loads(json.dumps(spec.to_dict(ahead)))) == ahead
    assert spec.fingerprint(ahead) != spec.fingerprint(plain)
    none = build("extrapolation", "m", "t", settings={"lookahead.type": "none"})
    assert none.parts == build("magnitude", "m", "t").parts


def test_another_optimizer_starts_from_its_own_rate() -> None:
    """The bundled tasks bring a rate that suits AdamW."""
    task = "bundled:opinions"
    assert build("movement", "m", task).parts.optimizer.lr == 1e-3
    other = build("movement", "m", task, settings={"optimizer.type": "SGD", "optimizer.momentum": 0.5})
    assert other.parts.optimizer == SGD(momentum=0.5) and other.training.steps == 400
    named = {"optimizer.type": "LARS", "optimizer.lr": 0.3}
    assert build("movement", "m", task, settings=named).parts.optimizer.lr == 0.3
