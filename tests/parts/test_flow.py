"""Scores from the gradient flow: worked numbers, conservation, finite differences, rounds, budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st

from analysis.engine.measure import Probe, gradient, hessian_times, tempered
from analysis.errors import SpecError
from analysis.parts.floor import GlobalWithFloor, fill, protected
from analysis.parts.flow import MEASURES, Flow, terms
from analysis.parts.schedules import Rounds
from analysis.parts.scores import Piece

Loss = Callable[[torch.Tensor], torch.Tensor]


def quadratic(x: torch.Tensor) -> torch.Tensor:
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    return x @ matrix @ x / 2


def quartic(x: torch.Tensor) -> torch.Tensor:
    return x[0] ** 4 / 4 + x[0] * x[1] + x[1] ** 2 / 2


def slopes(loss: Loss, at: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The point, g and H g."""
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    (g,) = gradient([(1.0, loss(x))], [x])
    (bend,) = hessian_times([(1.0, loss(x))], [x], [g])
    return x.detach(), g, bend


def score(name: str, x: torch.Tensor, g: torch.Tensor, bend: torch.Tensor) -> list[float]:
    """A measure of two units of one weight each."""
    pieces = [Piece(x[None], (1, 2), gradient=g[None], curvature=bend[None])]
    return [round(float(v), 6) for v in MEASURES[name].measure(pieces)]


def test_the_quadratic() -> None:
    x, g, bend = slopes(quadratic, (1.0, 2.0))
    assert g.tolist() == [4, 7] and bend.tolist() == [15, 25]
    assert terms(1, x, g).tolist() == [4, 14]
    assert -2 * terms(1, x, g).sum() == -36
    assert 2 * (g.square().sum() + terms(2, x, curvature=bend).sum()) == 260
    assert terms(2, x, curvature=bend).sum() == g.square().sum()  # of every quadratic
    assert score("biased loss", x, g, bend) == [4, 28]
    assert score("GraSP", x, g, bend) == [15, 50]


def test_the_quartic_and_what_removal_really_does() -> None:
    x, g, bend = slopes(quartic, (1.0, -2.0))
    assert (quartic(x).item(), g.tolist(), bend.tolist()) == (0.25, [-1, -1], [-4, -2])
    found = {name: score(name, x, g, bend) for name in MEASURES}
    assert found == {
        "magnitude": [1, 2],
        "loss": [1, 2],
        "biased loss": [1, 4],
        "size of the summed loss": [1, 2],
        "GraSP": [-4, 4],
        "gradient norm preserved": [4, 4],
    }
    removed = {k: slopes(quartic, at) for k, at in (("x", (0.0, -2.0)), ("y", (1.0, 0.0)))}
    after = {k: (quartic(at).item(), g.square().sum().item()) for k, (at, g, _) in removed.items()}
    assert after == {"x": (2, 8), "y": (0.25, 2)}
    # To first order x would change them by +1 and +8, y by -2 and -8: a first-order estimate is local.
    assert (-terms(1, x, g)).tolist() == [1, -2]
    assert (-2 * terms(2, x, curvature=bend)).tolist() == [8, -8]


def flowed(x: torch.Tensor, time: float, steps: int = 20) -> torch.Tensor:
    """Follows dx/dt = -g of the quartic for a time (Runge and Kutta)."""
    h = time / steps
    for _ in range(steps):
        k1 = -slopes(quartic, x.tolist())[1]
        k2 = -slopes(quartic, (x + h / 2 * k1).tolist())[1]
        k3 = -slopes(quartic, (x + h / 2 * k2).tolist())[1]
        k4 = -slopes(quartic, (x + h * k3).tolist())[1]
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def test_derivatives_along_the_flow_are_those_of_the_formulas() -> None:
    x, g, bend = slopes(quartic, (1.0, -2.0))
    h = 1e-3
    back, ahead = flowed(x, -h), flowed(x, h)
    for of, first, second in (
        (lambda v: v.square().sum(), -2 * (x * g).sum(), 2 * (g.square().sum() + (x * bend).sum())),
        (quartic, -g.square().sum(), 2 * (g * bend).sum()),
    ):
        assert ((of(ahead) - of(back)) / (2 * h)).item() == pytest.approx(first.item(), abs=1e-4)
        assert ((of(ahead) - 2 * of(x) + of(back)) / h**2).item() == pytest.approx(second.item(), abs=1e-3)
    assert (-2 * (x * g).sum()).item() == -2 and (2 * (g.square().sum() + (x * bend).sum())).item() == 4
    assert (2 * (g * bend).sum()).item() == 12


def test_where_the_sign_is_dropped_reverses_the_order() -> None:
    weight = torch.tensor([[1.0, -1.0], [0.5, 0.5]])
    pieces = [Piece(weight, (2, 1), gradient=torch.tensor([[0.6, 0.6], [0.2, 0.2]]))]
    found = {k: MEASURES[k].measure(pieces) for k in ("loss", "size of the summed loss", "biased loss")}
    torch.testing.assert_close(found["loss"], torch.tensor([1.2, 0.2]))
    torch.testing.assert_close(found["size of the summed loss"], torch.tensor([0.0, 0.2]))
    torch.testing.assert_close(found["biased loss"], torch.tensor([1.2, 0.1]))


def test_the_distance_from_the_start_may_weigh_the_terms() -> None:
    weight, start = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.75, -3.0]])
    piece = Piece(weight, (1, 2), start=start, gradient=torch.tensor([[4.0, 1.0]]))
    assert Flow(bias="distance").measure([piece]).tolist() == [1.0, 2.0]


def test_a_unit_over_several_matrices_sums_over_all_of_them() -> None:
    into = Piece(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), (2, 1), gradient=torch.ones(2, 2))
    out = Piece(torch.tensor([[-3.0, 1.0]]), (1, 2), gradient=torch.ones(1, 2))
    assert Flow().measure([into, out]).tolist() == [6, 2]
    assert Flow(absolute="after").measure([into, out]).tolist() == [0, 2]
    norms = Flow(order=0).measure([into, out])
    torch.testing.assert_close(norms, torch.tensor([14.0, 2.0]).sqrt())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"order": 0, "bias": "size"}, "Flow.bias is 'size' with Flow.order 0, which already is the size"),
        ({"order": 1, "absolute": "nowhere"}, "whose removal raises the loss most"),
        ({"order": 3}, "Flow.order is 3; allowed is one of 0, 1, 2"),
    ],
)
def test_measures_that_make_no_sense_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        Flow(**settings)  # type: ignore[arg-type]


CUTS = [
    (0.75, 1, [0.25], [0.75]),
    (0.75, 5, [0.625, 0.454545, 0.357143, 0.294118, 0.25], [0.375, 0.272727, 0.214286, 0.176471, 0.15]),
    (0.9, 4, [1 / 3.25, 1 / 5.5, 1 / 7.75, 0.1], None),
]


@pytest.mark.parametrize(("pruned", "n", "left", "removed"), CUTS)
def test_rounds_table(pruned: float, n: int, left: list[float], removed: list[float] | None) -> None:
    rounds = Rounds(rounds=n, warmup=0.2, cooldown=0.3)
    found = [rounds.value(0.2 + 0.5 * k / n, 1.0, 1 - pruned) for k in range(n + 1)]
    assert found[0] == 1.0 and found[-1] == 1 - pruned  # exactly
    assert found[1:] == pytest.approx(left, abs=1e-6)
    shares = [1 - b / a for a, b in pairwise(found)]
    assert shares == pytest.approx([pruned / (k * pruned + n * (1 - pruned)) for k in range(1, n + 1)])
    if removed:
        assert shares == pytest.approx(removed, abs=1e-6)
    steps = [1 / b - 1 / a for a, b in pairwise(found)]
    assert steps == pytest.approx([steps[0]] * n)


def test_compression_grows_by_equal_amounts() -> None:
    five = [1 / Rounds(warmup=0, cooldown=0).value(k / 5, 1.0, 0.25) for k in range(1, 6)]
    assert five == pytest.approx([1.6, 2.2, 2.8, 3.4, 4.0])
    four = [1 / Rounds(rounds=4, warmup=0, cooldown=0).value(k / 4, 1.0, 0.1) for k in range(1, 5)]
    assert four == pytest.approx([3.25, 5.5, 7.75, 10])


@given(st.integers(1, 30), st.floats(0, 0.45), st.floats(0, 0.45), st.floats(0, 1), st.floats(0, 1))
def test_rounds_only_fall_and_end_at_the_end(n: int, warm: float, cool: float, a: float, b: float) -> None:
    rounds = Rounds(rounds=n, warmup=warm, cooldown=cool)
    first, second = (rounds.value(p, 1.0, 0.1) for p in sorted((a, b)))
    assert 0.1 <= second <= first <= 1.0
    assert rounds.value(1 - cool, 1.0, 0.1) == rounds.value(1.0, 1.0, 0.1) == 0.1
    assert rounds.value(warm, 1.0, 0.1) == 1.0
    assert rounds.value(1.0, 0.0, 0.3) == 0.3 and rounds.value(0.0, 0.0, 0.3) == 0.0


def test_rounds_without_room_are_refused() -> None:
    with pytest.raises(SpecError, match=r"Rounds\.warmup \+ Rounds\.cooldown is 1; together"):
        Rounds(warmup=0.5, cooldown=0.5)


def test_the_floor_protects_the_best_of_every_layer() -> None:
    low, high = torch.arange(20.0), 100 + torch.arange(20.0)
    kept = GlobalWithFloor(floor=0.1).choose([low, high], 0.4)
    assert kept[0].nonzero().flatten().tolist() == [18, 19]  # by score; the reference would go by index
    assert (int(kept[0].sum()), int(kept[1].sum())) == (2, 14)
    bare = GlobalWithFloor(floor=0.0).choose([low, high], 0.4)
    assert (int(bare[0].sum()), int(bare[1].sum())) == (0, 16)
    assert [int(k.sum()) for k in protected([low, high], 0.05, 0.01)] == [0, 0]  # no room for one each
    assert [int(k.sum()) for k in protected([low, high], 0.01, 0.5)] == [1, 1]


def test_the_budget_counts_weights_where_units_differ_in_size() -> None:
    heads, neurons = torch.tensor([9.0, 1.0]), torch.tensor([8.0, 7.0, 6.0, 0.5])
    part = GlobalWithFloor(floor=0.0)
    chosen = part.choose([heads, neurons], 0.5, [10, 2])  # 28 weights, 14 may stay
    assert [c.tolist() for c in chosen] == [[True, False], [True, True, False, False]]
    # Too large for what is left, a head is passed over and the smaller units behind it still fit.
    chosen = part.choose([torch.tensor([0.0, 9.0]), neurons], 0.3, [10, 2])
    assert [c.tolist() for c in chosen] == [[False, False], [True] * 4]
    assert fill([2, 0, 1], [5, 4, 3], 7) == [2, 1]
    safe = GlobalWithFloor(floor=0.5).choose([heads, 10 + neurons], 0.7, [10, 2])
    assert safe[0].tolist() == [True, False]


def test_units_that_are_gone_stay_gone_and_equal_costs_give_an_exact_count() -> None:
    scores = torch.tensor([-3.0, -torch.inf, -1.0, -torch.inf, -2.0])
    for costs in ((), (7,)):
        assert GlobalWithFloor().choose([scores], 0.4, costs)[0].tolist() == [False, False, True, False, True]


BERT = hf.BertConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=32,
    vocab_size=50,
    hidden_act="relu",
    initializer_range=0.3,
    attn_implementation="eager",
)
IDS, LABELS = torch.arange(1, 25).view(4, 6), torch.tensor([0, 1, 1, 0])


def bert() -> hf.BertForSequenceClassification:
    torch.manual_seed(0)
    model = hf.BertForSequenceClassification(BERT).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
    return model


def test_what_attention_conserves_in_bert() -> None:
    """Scaling the query of a head and its key by inverse factors changes nothing, so their sums agree."""
    model = bert()
    for layer in model.bert.encoder.layer:
        own, out = layer.attention.self, layer.attention.output.dense
        tensors = [p for m in (own.query, own.key, own.value) for p in (m.weight, m.bias)] + [out.weight]
        grads = gradient([(1.0, model(IDS, labels=LABELS).loss)], tensors)
        wq, bq, wk, bk, wv, bv, wo = (t.detach() * g for t, g in zip(tensors, grads, strict=True))
        query = (wq.sum(1) + bq).view(4, 4).sum(1)
        key = (wk.sum(1) + bk).view(4, 4).sum(1)
        torch.testing.assert_close(query, key, atol=1e-14, rtol=0)
        torch.testing.assert_close(wv.sum(1) + bv, wo.sum(0), atol=1e-14, rtol=0)
        assert query.abs().max() > 1e-4 and wo.sum(0).abs().max() > 1e-4


def test_what_a_relu_net_conserves() -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((5, 3), (2, 5)))
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    ga, gb = gradient([(1.0, ((x @ a.T).relu() @ b.T - y).square().mean())], [a, b])
    torch.testing.assert_close((a * ga).sum(1), (b * gb).sum(0), atol=1e-14, rtol=0)


def test_hessian_times_gradient_is_the_finite_difference() -> None:
    model = bert()
    tensors = [m.weight for m in model.bert.encoder.modules() if isinstance(m, torch.nn.Linear)]

    def slope() -> list[torch.Tensor]:
        return gradient([(1.0, model(IDS, labels=LABELS).loss)], tensors)

    g = slope()
    bend = hessian_times([(1.0, model(IDS, labels=LABELS).loss)], tensors, g)
    sides, eps = [], 1e-6
    for sign in (1, -2, 1):
        with torch.no_grad():
            for t, v in zip(tensors, g, strict=True):
                t.add_(v, alpha=sign * eps)
        if sign != 1 or not sides:
            sides.append(slope())
    for up, down, found in zip(*sides, bend, strict=True):
        torch.testing.assert_close(found, (up - down) / (2 * eps), atol=1e-7, rtol=1e-6)
    assert max(float(b.abs().max()) for b in bend) > 1e-3


def test_scores_follow_a_permutation_of_the_neurons() -> None:
    torch.manual_seed(1)
    a, b = torch.randn(6, 3, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    x, y = torch.randn(9, 3, dtype=torch.float64), torch.randn(9, 2, dtype=torch.float64)
    order = torch.randperm(6)

    def found(into: torch.Tensor, out: torch.Tensor, times: float = 1.0) -> dict[str, torch.Tensor]:
        pair = [into.clone().requires_grad_(), out.clone().requires_grad_()]

        def loss() -> torch.Tensor:
            return times * ((x @ pair[0].T).tanh() @ pair[1].T - y).square().mean()

        g = gradient([(1.0, loss())], pair)
        bend = hessian_times([(1.0, loss())], pair, g)
        grids = ((6, 1), (1, 6))
        pieces = [
            Piece(w.detach(), grid, gradient=d, curvature=h)
            for w, grid, d, h in zip(pair, grids, g, bend, strict=True)
        ]
        return {name: part.measure(pieces) for name, part in MEASURES.items()}

    plain, permuted, scaled = found(a, b), found(a[order], b[:, order]), found(a, b, 3.0)
    for name, part in MEASURES.items():
        torch.testing.assert_close(permuted[name], plain[name][order])
        torch.testing.assert_close(scaled[name], plain[name] * 3**part.order)  # linear; quadratic in order 2


def test_micro_batches_do_not_matter_as_long_as_g_is_fixed() -> None:
    torch.manual_seed(2)
    w = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    x, y = torch.randn(12, 3, dtype=torch.float64), torch.randint(0, 4, (12,))

    def losses(*sizes: int) -> list[tuple[float, torch.Tensor]]:
        parts = zip(x.split(list(sizes)), y.split(list(sizes)), strict=True)
        return [(len(b) / 12, torch.nn.functional.cross_entropy(a @ w.T, b)) for a, b in parts]

    (g,) = gradient(losses(12), [w])
    (whole,) = hessian_times(losses(12), [w], [g])
    for sizes in ((5, 7), (1, 8, 3)):
        torch.testing.assert_close(gradient(losses(*sizes), [w])[0], g)
        torch.testing.assert_close(hessian_times(losses(*sizes)[::-1], [w], [g])[0], whole)


def test_a_high_temperature_shrinks_second_order_scores_by_its_square() -> None:
    torch.manual_seed(3)
    a, b = torch.randn(8, 5, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
    x, y = torch.randn(40, 5, dtype=torch.float64), torch.randint(0, 3, (40,))
    totals = []
    for temperature in (200.0, 400.0, 800.0):
        pair = [a.clone().requires_grad_(), b.clone().requires_grad_()]

        def loss(pair: list[torch.Tensor] = pair, t: float = temperature) -> torch.Tensor:
            out = {"logits": (x @ pair[0].T).relu() @ pair[1].T}
            return tempered(out, {"labels": y}, "classification", t)

        g = gradient([(1.0, loss())], pair)
        bend = hessian_times([(1.0, loss())], pair, g)
        totals.append(sum(float((w.detach() * h).abs().sum()) for w, h in zip(pair, bend, strict=True)))
    assert totals[1] / totals[0] == pytest.approx(0.25, abs=2e-3)
    assert totals[2] / totals[1] == pytest.approx(0.25, abs=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_the_temperature_decides_the_order_of_second_order_scores(seed: int) -> None:
    """At T = 1 the curvature of the softmax counts, at high T only that of the residual is left."""
    torch.manual_seed(seed)
    a, b = torch.randn(20, 5, dtype=torch.float64), torch.randn(3, 20, dtype=torch.float64)
    x, y = torch.randn(64, 5, dtype=torch.float64), torch.randint(0, 3, (64,))

    def ranks(temperature: float) -> torch.Tensor:
        pair = [a.clone().requires_grad_(), b.clone().requires_grad_()]

        def loss() -> torch.Tensor:
            logits = (x @ pair[0].T).relu() @ pair[1].T
            out = {"logits": logits, "loss": torch.nn.functional.cross_entropy(logits, y)}
            return tempered(out, {"labels": y}, "classification", temperature)

        g = gradient([(1.0, loss())], pair)
        bend = hessian_times([(1.0, loss())], pair, g)
        grids = ((20, 1), (1, 20))
        pieces = [
            Piece(w.detach(), grid, gradient=d, curvature=h)
            for w, grid, d, h in zip(pair, grids, g, bend, strict=True)
        ]
        return MEASURES["GraSP"].measure(pieces).argsort().argsort().double()

    def agreement(one: float, other: float) -> float:
        return float(torch.corrcoef(torch.stack([ranks(one), ranks(other)]))[0, 1])

    assert agreement(1.0, 200.0) < 0.7
    assert agreement(200.0, 800.0) > 0.85


def test_batch_norm_silences_signed_sums_in_training_and_not_as_scores_are_measured() -> None:
    """Behind batch norm the scale of a filter does nothing, so its sum of w g is 0, its sign noise."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 6, 3, bias=False).double()
    norm, head = torch.nn.BatchNorm2d(6, eps=1e-15).double(), torch.nn.Linear(6, 4).double()
    x, y = torch.randn(16, 3, 8, 8, dtype=torch.float64), torch.randint(0, 4, (16,))

    def loss() -> torch.Tensor:
        features = norm(conv(x)).relu().mean((2, 3))
        return torch.nn.functional.cross_entropy(head(features), y)

    for _ in range(5):  # running statistics that are not those of the batch
        loss()
    found = {}
    for training in (True, False):
        norm.train(training)
        (g,) = gradient([(1.0, loss())], [conv.weight])
        piece = [Piece(conv.weight.detach().flatten(1), (6, 1), gradient=g.flatten(1))]
        found[training] = {
            name: MEASURES[name].measure(piece) for name in ("loss", "size of the summed loss")
        }
    assert found[True]["size of the summed loss"].max() < 1e-15
    assert found[False]["size of the summed loss"].min() > 1e-3
    assert found[True]["loss"].min() > 1e-2  # dropping the sign before the sum is safe in either mode


def test_a_probe_measures_with_the_running_statistics() -> None:
    """The probe goes to evaluation mode, and leaves mode and statistics as they were."""
    torch.manual_seed(0)
    config = hf.ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic", num_labels=2
    )
    model = hf.ResNetForImageClassification(config)
    pictures = {"pixel_values": torch.randn(8, 1, 8, 8), "labels": torch.arange(8) % 2}
    model.train()
    for _ in range(3):
        model(**pictures)
    before = {name: value.clone() for name, value in model.named_buffers()}
    split = Pictures(pictures)
    weight = model.resnet.encoder.stages[0].layers[0].layer[0].convolution.weight
    probe = Probe(model, split, "image-classification", batch=8, seed=0, examples=8)
    (slope,), _ = probe.measure([weight], 1)
    assert model.training and all(torch.equal(v, before[n]) for n, v in model.named_buffers())
    signed = (weight.detach() * slope).flatten(1).sum(1).abs()
    (noise,) = gradient([(1.0, model(**pictures).loss)], [weight])
    silent = (weight.detach() * noise).flatten(1).sum(1).abs()
    assert float(signed.max()) > 100 * float(silent.max())


class Pictures:
    """As much of a split as a probe asks for."""

    def __init__(self, fields: dict[str, torch.Tensor]) -> None:
        self.fields, self.lengths = fields, np.ones(len(fields["labels"]), np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        return {name: value[torch.as_tensor(indices)] for name, value in self.fields.items()}


def test_temperature_one_is_the_models_own_loss_and_others_follow_its_rules() -> None:
    model = bert()
    out = model(IDS, labels=LABELS)
    batch = {"labels": LABELS}
    assert tempered(out, batch, "classification", 1.0) is out["loss"]
    near = tempered(out, batch, "classification", 1 + 1e-9)
    torch.testing.assert_close(near, out["loss"], atol=1e-7, rtol=0)
    torch.manual_seed(0)
    ends = {"start_positions": torch.tensor([1, 2, 9, 0]), "end_positions": torch.tensor([3, 2, 9, 1])}
    answers = hf.BertForQuestionAnswering(BERT).eval()
    found = answers(IDS, **ends)
    close = tempered(found, ends, "question-answering", 1 + 1e-6)
    torch.testing.assert_close(close, found["loss"], atol=1e-5, rtol=0)
    tags = torch.where(IDS % 3 == 0, -100, IDS % 2)
    tagger = hf.BertForTokenClassification(BERT).eval()
    said = tagger(IDS, labels=tags)
    close = tempered(said, {"labels": tags}, "token-classification", 1 + 1e-6)
    torch.testing.assert_close(close, said["loss"], atol=1e-5, rtol=0)


def test_movement_is_the_first_order_summed_over_training() -> None:
    """eta S = (w_T**2 - w_0**2) / 2 - eta**2 / 2 * sum of g**2, exactly, under plain gradient descent."""
    torch.manual_seed(4)
    w = torch.randn(30, dtype=torch.float64)
    curve, centre = torch.rand(30, dtype=torch.float64), torch.randn(30, dtype=torch.float64)
    start, moved, squares, eta = w.clone(), torch.zeros_like(w), torch.zeros_like(w), 0.035
    for _ in range(60):
        g = curve * (w - centre)
        moved -= w * g
        squares += g.square()
        w = w - eta * g
    growth = (w.square() - start.square()) / 2
    torch.testing.assert_close(eta * moved, growth - eta**2 * squares / 2, atol=1e-14, rtol=0)
    assert float(torch.corrcoef(torch.stack([moved, growth]))[0, 1]) == pytest.approx(0.9998, abs=5e-5)
