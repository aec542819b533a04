"""Evaluation: metrics of known predictions, order, modes, precision, and spans over windows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from analysis.engine import models
from analysis.engine.answers import best_spans
from analysis.engine.data import load_task, scorer
from analysis.engine.evaluate import evaluate
from analysis.engine.tasks_qa import AnswerSplit
from analysis.spec import TaskSpec


def test_a_batch_size_changes_nothing(tiny_bert: Path, tokenizer: Any, write: Any, sentences: Any) -> None:
    data = load_task(TaskSpec(source=str(write("d.jsonl", sentences))), tokenizer)
    model = models.load_model(str(tiny_bert), data, 0)
    whole, single = (evaluate(model, data.train, data, batch=size) for size in (64, 1))
    np.testing.assert_array_equal(whole.predictions["prediction"], single.predictions["prediction"])
    np.testing.assert_allclose(whole.predictions["confidence"], single.predictions["confidence"], atol=1e-5)
    np.testing.assert_array_equal(whole.predictions["row"], data.train.rows)
    right = [sentences[row]["label"] for row in data.train.rows]
    assert whole.predictions["label"].tolist() == right
    assert whole.value == whole.metrics["accuracy"] == np.mean(whole.predictions["prediction"] == right)
    assert {value.dtype.kind for value in whole.predictions.values()} == {"i", "f"}


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored_and_dropout_is_off(
    tiny_bert: Path, tokenizer: Any, write: Any, sentences: Any, training: bool
) -> None:
    data = load_task(TaskSpec(source=str(write("d.jsonl", sentences))), tokenizer)
    model = models.load_model(str(tiny_bert), data, 0).train(training)
    first, again = evaluate(model, data.test, data), evaluate(model, data.test, data)
    assert model.training is training
    np.testing.assert_array_equal(first.predictions["confidence"], again.predictions["confidence"])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_mode_is_restored_after_a_failure(
    tiny_bert: Path, tokenizer: Any, write: Any, sentences: Any
) -> None:
    data = load_task(TaskSpec(source=str(write("d.jsonl", sentences))), tokenizer)
    model = models.load_model(str(tiny_bert), data, 0)
    model.bert.embeddings.word_embeddings = nn.Embedding(2, 16)
    with pytest.raises(IndexError):
        evaluate(model, data.test, data)
    assert model.training


def test_half_precision_agrees_roughly(tiny_bert: Path, tokenizer: Any, write: Any, sentences: Any) -> None:
    data = load_task(TaskSpec(source=str(write("d.jsonl", sentences))), tokenizer)
    model = models.load_model(str(tiny_bert), data, 0)
    full, half = (evaluate(model, data.train, data, precision=precision) for precision in ("fp32", "bf16"))
    np.testing.assert_allclose(full.predictions["confidence"], half.predictions["confidence"], atol=0.02)
    assert half.predictions["confidence"].dtype == np.float32


@pytest.mark.parametrize("label", [1, 1.5])
def test_outputs_that_are_not_finite_make_metrics_unknown(
    tiny_bert: Path, tokenizer: Any, write: Any, label: float
) -> None:
    rows = [{"sentence": "good film", "label": label * (i % 2)} for i in range(30)]
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows))), tokenizer)
    model = models.load_model(str(tiny_bert), data, 0)
    nn.init.constant_(model.classifier.bias, float("nan"))
    found = evaluate(model, data.test, data)
    assert np.isnan(found.value)
    assert all(np.isnan(value) for value in found.metrics.values())


def test_regression_predictions(tiny_bert: Path, tokenizer: Any, write: Any) -> None:
    rows = [{"sentence": "good " * (i % 7 + 1), "label": 0.5 * (i % 7)} for i in range(60)]
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows))), tokenizer)
    found = evaluate(models.load_model(str(tiny_bert), data, 0), data.train, data)
    expected = np.corrcoef(found.predictions["label"], found.predictions["prediction"])[0, 1]
    assert found.value == found.metrics["pearson"] == pytest.approx(expected, abs=1e-5)
    assert np.isnan(found.predictions["confidence"]).all()


def test_tags_beyond_the_longest_input_count_as_outside(tiny_bert: Path, tokenizer: Any, write: Any) -> None:
    rows = [{"tokens": ["obama", "visited", "paris"] * 4, "ner_tags": ["B-PER", "O", "B-LOC"] * 4}] * 20
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows)), max_length=8), tokenizer)
    found = evaluate(models.load_model(str(tiny_bert), data, 0), data.test, data)
    per_row = found.predictions["prediction"].reshape(2, 12)
    assert np.isfinite(found.predictions["confidence"].reshape(2, 12)[:, :6]).all()
    assert (per_row[:, 6:] == data.label_names.index("O")).all()
    assert np.isnan(found.predictions["confidence"].reshape(2, 12)[:, 6:]).all()
    assert found.metrics.keys() == {"f1", "precision", "recall", "accuracy"}


def perfect(split: Any, num_labels: int) -> Any:
    """Logits that put everything on the right answer of a tag or answer split."""

    def logits(indices: np.ndarray) -> Any:
        fields = split.batch(indices)
        if isinstance(split, AnswerSplit):
            length = fields["input_ids"].shape[1]
            first, last = (
                torch.nn.functional.one_hot(fields[f"{end}_positions"], length) * 9.0
                for end in ("start", "end")
            )
            return SimpleNamespace(start_logits=first, end_logits=last)
        return SimpleNamespace(
            logits=torch.nn.functional.one_hot(fields["labels"].clamp(min=0), num_labels) * 9.0
        )

    return logits


def test_right_tags_score_one(tokenizer: Any, write: Any) -> None:
    rows = [{"tokens": ["obama", "visited", "paris"], "ner_tags": ["B-PER", "O", "B-LOC"]}] * 30
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows))), tokenizer)
    scores = scorer(data.train, data)
    answer = perfect(data.train, data.num_labels)
    for start in range(0, len(data.train), 4):
        indices = np.arange(start, min(start + 4, len(data.train)))
        scores.add(indices, answer(indices), {})
    assert scores.result()[0] == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}


def test_right_spans_score_one_over_windows_in_any_order(tokenizer: Any, write: Any) -> None:
    context = "the film is not bad and " * 8 + "merkel was born in rome . " + "a dog sat " * 4
    rows = [
        {
            "question": f"who won ? film{i}",
            "context": f"{context} film{i}",
            "answers": {
                "text": ["born in rome", "rome"],
                "answer_start": [context.index("born"), context.index("rome")],
            },
        }
        for i in range(20)
    ]
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows)), max_length=40), tokenizer)
    split = data.train
    scores, answer = scorer(split, data), perfect(split, 2)
    order = np.random.default_rng(0).permutation(len(split))
    for indices in np.array_split(order, 5):
        scores.add(indices, answer(indices), {})
    metrics, predictions = scores.result()
    assert metrics == {"f1": 1.0, "exact_match": 1.0}
    np.testing.assert_array_equal(predictions["label"], predictions["prediction"])
    assert predictions["row"].tolist() == split.source.rows.tolist()
    assert ((predictions["confidence"] > 0.9) & (predictions["confidence"] <= 1)).all()
    assert 0 <= data.floor < 0.2


def test_best_spans_agree_with_trying_every_pair() -> None:
    generator = torch.Generator().manual_seed(1)
    start, end = torch.randn(6, 9, generator=generator), torch.randn(6, 9, generator=generator)
    start[:, :2] = end[:, :2] = -torch.inf
    score, first, last = best_spans(start, end, longest=4)
    for row in range(6):
        pairs = {(i, j): start[row, i] + end[row, j] for i in range(9) for j in range(i, min(i + 4, 9))}
        best = max(pairs, key=lambda pair: float(pairs[pair]))
        assert (int(first[row]), int(last[row])) == best
        assert score[row] == pairs[best]


def test_question_answering_with_a_model(tiny_bert: Path, tokenizer: Any, write: Any) -> None:
    rows = [
        {
            "question": "who ?",
            "context": f"obama visited rome {i}",
            "answers": {"text": ["obama"], "answer_start": [0]},
        }
        for i in range(20)
    ]
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows))), tokenizer)
    found = evaluate(models.load_model(str(tiny_bert), data, 0), data.test, data)
    assert data.floor == 1.0
    assert len(found.predictions["row"]) == len(data.test.source)
    assert 0 <= found.metrics["exact_match"] <= found.metrics["f1"] <= 1
