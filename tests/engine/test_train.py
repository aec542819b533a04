"""The one loop under every recipe: conformance, resuming, accumulation, distillation, divergence."""

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
from safetensors.torch import load_file, save_file

from analysis import spec as specs
from analysis.engine import compact, reporting, train
from analysis.engine.record import record, short
from analysis.errors import RunError, SpecError
from analysis.parts.lookahead import SOURCES
from analysis.recipes import RECIPES, build
from analysis.store import arrays
from analysis.store.layout import write_json
from tests.engine.conftest import KEEPS, SMALL

STEPS = 20


class Control:
    """The worker's side of the loop, in this process; asks to stop before one step."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.step = stop_at, 0

    def should_stop(self) -> bool:
        return self.stop_at is not None and self.step >= self.stop_at

    def report(self, step: int, progress: float) -> None:
        assert 0 < progress <= 1
        self.step = step

    def elapsed(self) -> float:
        return 1.0


Launch = Callable[..., Path]


@pytest.fixture
def launch(
    tmp_path: Path, tiny_bert: Path, sentences: list[dict[str, Any]], write: Callable[..., Path]
) -> Launch:
    """Writes a run folder for a recipe on a tiny BERT and forty sentences."""
    data = write("data.jsonl", sentences * 3)

    def make(recipe: str, name: str = "", model: str = "", teacher: str = "", **settings: Any) -> Path:
        plain = {
            "training.batch": 8,
            "training.precision": "fp32",
            "optimizer.lr": 0.01,
            "training.evaluations": 2,
        }
        plan = {**plain, **SMALL.get(recipe, {}), **{k.replace("__", "."): v for k, v in settings.items()}}
        keep = plan.pop("keep", KEEPS.get(recipe, 0.25))
        spec = build(
            recipe,
            model or str(tiny_bert),
            str(data),
            keep=keep,
            steps=plan.pop("steps", STEPS),
            settings=plan,
            teacher=teacher,
        )
        path = tmp_path / "runs" / (name or f"{recipe}-{len(list(tmp_path.glob('runs/*')))}")
        path.mkdir(parents=True)
        write_json(path / "spec.json", specs.to_dict(spec))
        write_json(path / "state.json", {"state": "done", "pid": 1})
        return path

    return make


def events(path: Path, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def masks(path: Path) -> dict[str, bytes]:
    last = arrays.latest(path / "masks")
    assert last is not None
    return {k: v.tobytes() for k, v in arrays.load_masks(path / "masks" / f"{last:06d}.npz").items()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_and_leaves_a_whole_folder(launch: Launch, recipe: str) -> None:
    path = launch(recipe)
    train.execute(path, Control())
    losses = events(path, "loss")
    assert [row["step"] for row in losses] == list(range(STEPS + 1))
    assert all(math.isfinite(row["loss"]) for row in losses[:-1])
    final = [row for row in events(path, "eval") if row["step"] == STEPS]
    assert [row["split"] for row in final] == ["validation", "test"]
    assert all(0 <= row["value"] <= 1 and row["cut"] == "final" for row in final)
    sites = json.loads((path / "sites.json").read_text())
    counted = sum(np.unpackbits(np.frombuffer(b, np.uint8)).sum() for b in masks(path).values())
    assert final[0]["keep_prunable"] == pytest.approx(counted / sites["counts"]["prunable"])
    if RECIPES[recipe].lineup.select.by_keep:
        wanted = KEEPS.get(recipe, 0.25)
        unit = 512 if recipe == "gradient_flow" else 1  # a head; the budget is met to within one unit
        assert 0 <= wanted - final[0]["keep_prunable"] < unit / sites["counts"]["prunable"]
    planes = arrays.load_planes(path / "histograms" / f"{STEPS:06d}.npz")
    for kept, pruned in (("score_kept", "score_pruned"), ("start_kept", "start_pruned")):
        assert int(planes[kept].sum()) == counted
        assert int(planes[kept].sum() + planes[pruned].sum()) == sites["counts"]["prunable"]
    points = arrays.load_points(path / "points" / f"{STEPS:06d}.parquet")
    assert np.isfinite(points["score"]).all()
    predictions = arrays.load_predictions(path / "predictions.parquet")
    assert set(predictions["split"].astype(str)) == {"validation", "test"}
    (counted_macs,) = events(path, "compute")
    own = recipe == "pins"  # its own earlier student answers too
    plan = specs.legs(specs.from_dict(json.loads((path / "spec.json").read_text())))
    passes = [(leg.last - leg.first, 4 if own or leg.spec.teacher else 3) for leg in plan]
    one = 8 * counted_macs["macs_forward"]
    assert counted_macs["macs_run"] == sum(steps * n for steps, n in passes) * one
    assert counted_macs["macs_step"] == passes[-1][1] * one
    t, d = counted_macs["tokens"], 16  # two layers, the pooler and two classes, as the masks left them
    inner = KEEPS[recipe] if recipe == "compute_optimal" else 1
    layer = t * (4 * d * d + 2 * d * 32) + 2 * t * t * d
    assert counted_macs["macs_forward"] == inner * 2 * layer + d * d + 2 * d


@pytest.mark.parametrize("recipe", ["movement", "soft_movement", "l0", "gradient_flow", "powerprop"])
def test_the_result_is_an_ordinary_folder(launch: Launch, recipe: str) -> None:
    path = launch(recipe)
    train.execute(path, Control())
    names = load_file(path / "model" / "model.safetensors")
    assert not any("parametriz" in name or "mask" in name for name in names)
    model = hf.AutoModelForSequenceClassification.from_pretrained(path / "model")
    tokenizer = hf.AutoTokenizer.from_pretrained(path / "model")
    assert model(**tokenizer("the film is good", return_tensors="pt")).logits.shape == (1, 2)
    card = (path / "model" / "README.md").read_text()
    assert (
        "python -m analysis run" in card
        and f"| test | accuracy | {events(path, 'eval')[-1]['value']:.4f} |" in card
    )
    packed = masks(path)
    for name, bits in packed.items():
        weight = next(v for k, v in names.items() if k.endswith(f"{name}.weight"))
        mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=weight.numel()).astype(bool)
        assert ((weight.numpy().reshape(-1) != 0) <= mask).all()  # nothing pruned is left


def test_a_run_with_removable_units_cuts_them_out_and_says_so(launch: Launch) -> None:
    path = launch("block_movement", keep=0.2, steps=60, score__lr=0.5, schedule__warmup=0.1)
    train.execute(path, Control())
    (event,) = events(path, "removal")
    assert event["difference"] <= 1e-5 and event["parameters"] < event["parameters_before"]
    assert [la["heads_before"] for la in event["layers"]] == [2, 2]
    weights = load_file(path / "compact" / "model.safetensors")
    assert sum(w.numel() for name, w in weights.items() if "position_ids" not in name) == event["parameters"]
    dense = hf.AutoModelForSequenceClassification.from_pretrained(path / "model")
    again = compact.load(
        path / "compact", hf.AutoModelForSequenceClassification.from_pretrained(path / "model")
    )
    ids = torch.arange(5, 17).view(2, 6)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(ids).logits, dense.eval()(ids).logits, atol=1e-5, rtol=0)


AHEAD = {"lookahead__type": "Extrapolation", "lookahead__rule": "rho", "lookahead__rho": 1.0}
PAST = {**AHEAD, "lookahead__source": "past", "lookahead__workers": 2, "optimizer__type": "SGD"}
LOCAL = {**AHEAD, "lookahead__source": "local", "lookahead__workers": 2}


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        *((recipe, {}) for recipe in RECIPES if recipe != "dense"),
        *(("movement", PAST), ("l0", PAST), ("magnitude", LOCAL)),
    ],
)
def test_stop_and_resume_end_like_a_straight_run(
    launch: Launch, recipe: str, settings: dict[str, Any]
) -> None:
    straight, broken = launch(recipe, **settings), launch(recipe, **settings)
    train.execute(straight, Control())
    with pytest.raises(train.Stopped):
        train.execute(broken, Control(stop_at=7))
    with pytest.raises(train.Stopped):
        train.execute(broken, Control(stop_at=13))
    train.execute(broken, Control())
    assert masks(broken) == masks(straight)
    assert (broken / "model" / "model.safetensors").read_bytes() == (
        straight / "model" / "model.safetensors"
    ).read_bytes()
    assert [row["step"] for row in events(broken, "resume")] == [7, 13]


EXPLORING = {
    "select__type": "TopKast",
    "select__explore": 0.2,
    "penalty__type": "TopKastPenalty",
    "schedule__type": "Constant",
    "optimizer__weight_decay": 0.1,
    "optimizer__lr": 1e-4,
}


@pytest.mark.parametrize("recipe", ["magnitude", "powerprop"])
def test_topkast_keeps_its_count_freezes_the_rest_and_resumes(launch: Launch, recipe: str) -> None:
    straight, broken = launch(recipe, **EXPLORING), launch(recipe, **EXPLORING)
    train.execute(straight, Control())
    with pytest.raises(train.Stopped):
        train.execute(broken, Control(stop_at=7))
    train.execute(broken, Control())
    assert masks(broken) == masks(straight)
    loss = events(straight, "loss")[0]
    assert (loss["keep"], loss["kept"]) == (0.25, 0.25)
    assert loss["terms"]["penalty"] > 0 and loss["penalty_weight"] == 1e-4
    points = arrays.load_points(straight / "points" / f"{STEPS:06d}.parquet")
    still = points["w"] == points["w0"]
    if recipe == "powerprop":  # through the root and back
        still = np.abs(points["w"] - points["w0"]) < 1e-7
    assert 0.4 < still.mean() < 0.55  # at the end 0.55 of the weights are out of reach; some were in it once
    assert not still[points["kept"]].all()


def test_a_power_of_one_is_magnitude_bit_for_bit(launch: Launch) -> None:
    plan = {"optimizer__weight_decay": 0.1}
    plain, power = launch("magnitude", **plan), launch("powerprop", reparam__alpha=1, **plan)
    for path in (plain, power):
        train.execute(path, Control())
    assert masks(plain) == masks(power)
    assert (plain / "model" / "model.safetensors").read_bytes() == (
        power / "model" / "model.safetensors"
    ).read_bytes()


def test_weight_decay_reaches_powered_weights_once(launch: Launch) -> None:
    """Without a gradient only decay is left, and it takes the same from W with and without a power."""
    left = []
    for alpha in (1, 3):
        plan = {
            "optimizer.weight_decay": 0.5,
            "reparam.alpha": alpha,
            "task.weight": 0,
            "optimizer.warmup": 0,
        }
        path = launch("powerprop", keep=1.0, **plan)
        train.execute(path, Control())
        points = arrays.load_points(path / "points" / f"{STEPS:06d}.parquet")
        left.append(np.median(points["w"] / points["w0"]))
    assert left[0] == pytest.approx(left[1], rel=1e-4)
    assert 0.9 < left[0] < 0.99


def test_what_was_cut_before_the_first_step_stays_cut_and_is_removed(launch: Launch) -> None:
    path = launch("compute_optimal", training__snapshots=4, optimizer__lr=0.1)
    train.execute(path, Control())
    taken = [arrays.load_masks(file) for file in sorted((path / "masks").glob("*.npz"))]
    assert len(taken) == 4
    for later in taken[1:]:
        assert all(np.array_equal(later[name], bits) for name, bits in taken[0].items())
    assert all(row["flips"] == 0 for row in events(path, "loss")[1:])
    (event,) = events(path, "removal")
    assert event["difference"] <= 1e-5
    assert [(la["heads"], la["neurons"]) for la in event["layers"]] == [(1, 16)] * 2


def test_a_teacher_costs_a_forward_pass_more(launch: Launch) -> None:
    dense = launch("dense", steps=4)
    train.execute(dense, Control())
    student = launch("compute_optimal", steps=4, teacher=f"run:{dense.name}")
    train.execute(student, Control())
    (alone,), (taught,) = events(dense, "compute"), events(student, "compute")
    assert taught["macs_step"] == 8 * (3 * taught["macs_forward"] + alone["macs_forward"])


def test_a_residual_network_is_pruned_trained_and_removed(tmp_path: Path, write: Callable[..., Path]) -> None:
    sizes = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1], "num_channels": 1}
    torch.manual_seed(0)
    hf.ResNetForImageClassification(hf.ResNetConfig(**sizes)).save_pretrained(tmp_path / "resnet")
    rng = np.random.default_rng(0)
    rows = [{"image": rng.random((8, 8)).round(3).tolist(), "label": i % 2} for i in range(60)]
    plan = {"training.batch": 8, "training.precision": "fp32", "training.threads": 1}
    for keep in (1.0, 0.5):
        spec = build(
            "compute_optimal",
            str(tmp_path / "resnet"),
            str(write("pictures.jsonl", rows)),
            keep=keep,
            steps=6,
            settings=plan,
        )
        path = tmp_path / f"run-{keep}"
        path.mkdir()
        write_json(path / "spec.json", specs.to_dict(spec))
        train.execute(path, Control())
    (event,) = events(path, "removal")
    assert event["difference"] <= 1e-5
    assert [(la["filters"], la["filters_before"]) for la in event["layers"]] == [(4, 8), (8, 16)]
    (whole,), (half,) = events(tmp_path / "run-1.0", "compute"), events(path, "compute")
    assert half["pixels"] == 64 and half["macs_run"] < whole["macs_run"]


def test_the_same_spec_gives_the_same_weights(launch: Launch) -> None:
    first, second = launch("dense"), launch("dense")
    for path in (first, second):
        train.execute(path, Control())
    assert (first / "model" / "model.safetensors").read_bytes() == (
        second / "model" / "model.safetensors"
    ).read_bytes()


def test_seeds_decide(launch: Launch, tmp_path: Path) -> None:
    same, again = launch("movement"), launch("movement")
    other = launch("movement")
    spec = json.loads((other / "spec.json").read_text())
    write_json(other / "spec.json", {**spec, "seed": 5})
    for path in (same, again, other):
        train.execute(path, Control())
    assert masks(same) == masks(again) != masks(other)


def test_accumulated_gradient_is_the_gradient_of_the_whole_batch(launch: Launch) -> None:
    path = launch("movement", training__accumulate=4)
    spec = specs.from_dict(json.loads((path / "spec.json").read_text()))
    gradients = []
    for accumulate in (1, 4):
        changed = specs.with_settings(spec, {"training.accumulate": accumulate, "optimizer.clip": 0})
        setup = train.prepare(changed, path.parent)
        setup.model.eval()  # without dropout, so that only the cutting of the batch differs
        kept: list[torch.Tensor] = []
        setup.optimizer.step = lambda s=setup, k=kept: k.extend(  # type: ignore[method-assign]
            p.grad.clone() for g in s.optimizer.param_groups for p in g["params"] if p.grad is not None
        )
        train.one_step(setup, np.arange(8), 0.0, 0)
        gradients.append(kept)
    assert len(gradients[0]) > 20
    for whole, pieces in zip(*gradients, strict=True):
        torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=1e-4)


def test_a_teacher_is_followed(launch: Launch) -> None:
    dense = launch("dense", steps=30)
    train.execute(dense, Control())
    student = launch("movement", teacher=f"run:{dense.name}")
    train.execute(student, Control())
    terms = events(student, "loss")[0]["terms"]
    assert set(terms) == {"task", "distillation"}
    spec = specs.from_dict(json.loads((student / "spec.json").read_text()))
    assert (spec.parts.task.weight, spec.parts.distillation.weight) == (0.1, 0.9)
    loss = events(student, "loss")[0]
    assert loss["loss"] == pytest.approx(0.1 * terms["task"] + 0.9 * terms["distillation"])


def test_without_steering_a_larger_penalty_keeps_less(launch: Launch) -> None:
    kept = []
    for weight in (1e-3, 100.0):
        plan = {"penalty.steer": False, "penalty.weight": weight, "score.lr": 0.5, "optimizer.lr": 1e-3}
        path = launch("soft_movement", steps=60, **plan)
        train.execute(path, Control())
        kept.append(events(path, "eval")[-1]["keep_prunable"])
    assert kept[0] > kept[1] + 0.1


def test_a_loss_that_is_no_number_ends_the_run_with_a_sentence(
    launch: Launch, tiny_bert: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_bert.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    tensors["encoder.layer.1.output.dense.weight"][3, 3] = math.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    path = launch("movement", model=str(broken))
    with pytest.raises(
        reporting.Diverged, match=r"task loss became nan at step 0 of 20: .*lower optimizer\.lr"
    ):
        train.execute(path, Control())
    assert events(path, "loss")[0]["loss"] is None  # JSON has no NaN


def test_glances_show_both_cuts(launch: Launch) -> None:
    path = launch("magnitude", training__evaluations=4, schedule__warmup=0.3, schedule__cooldown=0.3)
    train.execute(path, Control())
    seen = [(row["step"], row["cut"], round(row["keep_prunable"], 2)) for row in events(path, "eval")]
    assert seen[:2] == [(5, "current", 1.0), (5, "final", 0.25)]
    assert (15, "final", 0.25) not in seen and (15, "current", 0.25) in seen
    kept = {row["step"]: row["kept"] for row in events(path, "loss")}
    assert kept[5] == 1.0  # looking at the final cut does not cut


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SpecError, match="needs a learned score"):
        build("movement", "m", "t", settings={"score.type": "Magnitude", "select.type": "SigmoidThreshold"})
    with pytest.raises(SpecError, match=r"reparam is HardConcrete.*select is TopK, which would count others"):
        build("l0", "m", "t", settings={"select.type": "TopK"})
    with pytest.raises(
        SpecError, match=r"schedule is Cubic, which cuts at every step, but the score Flow is"
    ):
        build("gradient_flow", "m", "t", settings={"schedule.type": "Cubic"})
    with pytest.raises(SpecError, match=r"frozen from 0 of the run on, but the score Movement is learned"):
        build("compute_optimal", "m", "t", settings={"score.type": "Movement"})
    with pytest.raises(SpecError, match=r"frozen from 0\.5 of the run on, but the score GateLogit"):
        build(
            "l0", "m", "t", settings={"schedule.type": "OneShot", "schedule.at": 0.5, "schedule.frozen": True}
        )
    with pytest.raises(SpecError, match=r"lookahead is Extrapolation.*choose raw_moments=false"):
        build("powerprop", "m", "t", settings={"lookahead.type": "Extrapolation"})
    with pytest.raises(SpecError, match=r"optimizer is LARS.*choose raw_moments=false"):
        build("powerprop", "m", "t", settings={"optimizer.type": "LARS"})
    with pytest.raises(SpecError, match=r"keep is 0\.5 for the recipe dense"):
        build("dense", "m", "t", keep=0.5)


def test_recording_is_compact_and_only_for_finished_runs(launch: Launch, tmp_path: Path) -> None:
    path = launch("movement")
    train.execute(path, Control())
    (made,) = record(path.parent, [path.name], tmp_path / "out", points=500)
    assert {p.name for p in made.iterdir()} == {
        *("spec.json", "state.json", "sites.json", "events.jsonl", "predictions.parquet"),
        *("masks", "points", "histograms"),
    }
    assert masks(made) == masks(path)
    assert "pid" not in json.loads((made / "state.json").read_text())
    assert set(arrays.load_predictions(made / "predictions.parquet")["split"].astype(str)) == {"test"}
    with pytest.raises(RunError, match="recorded over itself"):
        record(path.parent, [path.name], path.parent)
    assert (path / "spec.json").is_file() and masks(path) == masks(made)
    with pytest.raises(RunError, match="There is no run 'elsewhere'"):
        record(path.parent, ["elsewhere"], tmp_path / "out")
    (path / "predictions.parquet").unlink()  # a copy that fails half way leaves the older one alone
    with pytest.raises(FileNotFoundError):
        record(path.parent, [path.name], tmp_path / "out")
    assert (made / "predictions.parquet").is_file()
    write_json(path / "state.json", {"state": "running"})
    with pytest.raises(RunError, match="only a run that is done"):
        record(path.parent, [path.name], tmp_path / "out")


def test_short_floats_lose_little() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert np.abs(short(values) / values - 1).max() < 2**-10
    assert np.isnan(short(np.array([np.nan], np.float32)))[0]


@pytest.mark.parametrize("recipe", ["movement", "gradient_flow"])
def test_looking_does_not_change_the_run(launch: Launch, recipe: str) -> None:
    seldom = launch(recipe, training__evaluations=0, training__refresh=3)
    often = launch(recipe, training__evaluations=STEPS, training__refresh=3)
    for path in (seldom, often):
        train.execute(path, Control())
    assert masks(seldom) == masks(often)
    saved = [(path / "model" / "model.safetensors").read_bytes() for path in (seldom, often)]
    assert saved[0] == saved[1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_takes_its_gradient_ahead(launch: Launch, tiny_bert: Path, recipe: str) -> None:
    """Masks are those of x while weights and scores are ahead, and both are back before the step."""
    chained = {"reparam__raw_moments": False} if recipe == "powerprop" else {}
    plan = {**AHEAD, **chained, "steps": 2, "optimizer__warmup": 0, "lookahead__source": "global"}
    if RECIPES[recipe].stages:  # with a teacher given, the first stage is one that has a look-ahead
        plan |= {"steps": 2 * len(RECIPES[recipe].stages), "teacher": str(tiny_bert)}
    path = launch(recipe, **plan)
    setup = train.prepare(specs.from_dict(json.loads((path / "spec.json").read_text())), path.parent)
    setup.model.train()
    ahead = setup.lookahead
    assert ahead is not None
    start = [p.detach().clone() for p in ahead.parameters]
    masks_before = setup.pruner.masks()
    moved: list[list[bool]] = []

    def backward(rows: np.ndarray, whole: int) -> dict[str, float]:
        moved.append([not torch.equal(p, x) for p, x in zip(ahead.parameters, start, strict=True)])
        assert all(torch.equal(a, b) for a, b in zip(setup.pruner.masks(), masks_before, strict=True))
        return train._backward(setup, 1.0, rows, whole)

    ahead.gradient(backward, np.arange(8))
    changed = [bool(p.grad.count_nonzero()) for p in ahead.parameters if p.grad is not None]
    # Of a few tensors every step is below the last bit of the weight.
    assert not any(moved[0]) and sum(moved[1]) >= 0.85 * sum(changed) > 20
    assert all(torch.equal(p, x) for p, x in zip(ahead.parameters, start, strict=True))
    scores = {id(p) for p in setup.pruner.learned_scores()}
    assert all(m for m, p in zip(moved[1], ahead.parameters, strict=True) if id(p) in scores)
    train.execute(path, Control())
    assert math.isfinite(events(path, "loss")[0]["loss"])


@pytest.mark.parametrize("workers", [1, 4])
def test_no_look_ahead_is_the_optimizer_alone_bit_for_bit(launch: Launch, workers: int) -> None:
    plan = {"steps": 3, "optimizer__warmup": 0, "training__evaluations": 0}
    off = {**AHEAD, "lookahead__rho": 0, "lookahead__workers": workers}
    sources = [s for s in SOURCES if s != "nesterov"]
    runs = [launch("movement", **plan, training__accumulate=workers)]
    runs += [launch("movement", **plan, **off, lookahead__source=source) for source in sources]
    for path in runs:
        train.execute(path, Control())
    assert all(masks(path) == masks(runs[0]) for path in runs)
    assert len({(path / "model" / "model.safetensors").read_bytes() for path in runs}) == 1


@pytest.mark.parametrize("optimizer", ["SGD", "LARS"])
def test_other_optimizers_learn_scores_and_weights(launch: Launch, optimizer: str) -> None:
    path = launch("movement", steps=6, optimizer__type=optimizer, optimizer__weight_decay=0.01)
    train.execute(path, Control())
    assert all(math.isfinite(row["loss"]) for row in events(path, "loss")[:-1])
    assert events(path, "eval")[-1]["keep_prunable"] == 0.25
    assert len({row["loss"] for row in events(path, "loss")[:-1]}) == 6
