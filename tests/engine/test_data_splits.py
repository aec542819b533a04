"""Tokenised splits: padding, segments, lengths, tags per word, windows over contexts, pictures."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch

from analysis.engine.data import load_task
from analysis.engine.splits import Inputs, Ragged
from analysis.engine.tasks_qa import AnswerSplit
from analysis.engine.tasks_token import IGNORED, TagSplit
from analysis.errors import DataError, ModelError
from analysis.spec import TaskSpec

EVERY = np.arange(3)


def test_ragged_rows_pad_to_the_longest_of_the_batch() -> None:
    rows = Ragged.of([[5], [6, 7, 8], [], [9, 1]])
    values, inside = rows.pad(np.array([3, 0, 1]), fill=-1)
    assert values.tolist() == [[9, 1, -1], [5, -1, -1], [6, 7, 8]]
    assert inside.tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    assert rows.lengths.tolist() == [1, 3, 0, 2]
    assert rows.row(1).tolist() == [6, 7, 8]


def test_padding_beyond_the_end_of_the_last_row_reads_nothing() -> None:
    values, _ = Ragged.of([[1, 2, 3], [4]]).pad(np.array([1, 0]), fill=0)
    assert values.tolist() == [[4, 0, 0], [1, 2, 3]]


def test_an_input_without_tokens_gets_one() -> None:
    fields = Inputs.of({"input_ids": [[], [4, 5]]}, spare=9).batch(np.array([0, 1]), pad=0)
    assert fields["input_ids"].tolist() == [[9, 0], [4, 5]]
    assert fields["attention_mask"].tolist() == [[1, 0], [1, 1]]


def test_one_sentence(write: Any, sentences: list[dict[str, Any]], tokenizer: Any) -> None:
    data = load_task(TaskSpec(source=str(write("d.jsonl", sentences))), tokenizer)
    row = int(data.train.rows[2])
    fields = data.train.batch(np.array([2]))
    ids = tokenizer(sentences[row]["sentence"])["input_ids"]
    assert fields["input_ids"].tolist() == [ids]
    assert fields["labels"].tolist() == [sentences[row]["label"]]
    assert "token_type_ids" not in fields
    assert int(data.train.lengths[2]) == len(ids)
    assert (data.kind, data.metric, data.num_labels, data.label_names) == (
        "classification",
        "accuracy",
        2,
        ["0", "1"],
    )
    assert data.problem_type == "single_label_classification"


def test_two_sentences_have_segments_and_are_cut_to_length(write: Any, tokenizer: Any) -> None:
    rows = [
        {"premise": "the film is good " * 9, "hypothesis": "it is bad", "label": i % 3} for i in range(30)
    ]
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows)), max_length=20), tokenizer)
    fields = data.train.batch(EVERY)
    assert fields["input_ids"].shape == fields["token_type_ids"].shape == (3, 20)
    assert fields["token_type_ids"][0].tolist() == [0] * 16 + [1] * 4
    assert data.max_length == 20


def test_the_model_limits_the_length(write: Any, sentences: list[dict[str, Any]], tokenizer: Any) -> None:
    data = load_task(TaskSpec(source=str(write("d.jsonl", sentences)), max_length=4096), tokenizer)
    assert data.max_length == 48


def test_numbers_as_labels(write: Any, tokenizer: Any) -> None:
    rows = [{"sentence1": "good film", "sentence2": "fine film", "label": i / 7} for i in range(30)]
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows))), tokenizer)
    assert (data.kind, data.metric, data.num_labels, data.floor) == ("regression", "pearson", 1, 0.0)
    assert "constant" in data.floor_note
    labels = data.train.batch(EVERY)["labels"]
    assert labels.dtype == torch.float32
    assert labels.tolist() == pytest.approx([row / 7 for row in data.train.rows[:3]])


def test_the_floor_is_the_largest_class_of_the_test_split(
    write: Any, sentences: Any, tokenizer: Any, tmp_path: Any
) -> None:
    write("task/train.jsonl", sentences)
    write("task/validation.jsonl", [{"sentence": "good", "label": int(i < 7)} for i in range(10)])
    data = load_task(TaskSpec(source=str(tmp_path / "task")), tokenizer)
    assert data.floor == 0.7
    assert len(data.test) == 10


def test_a_test_split_without_labels_is_left_out(
    write: Any, sentences: Any, tokenizer: Any, tmp_path: Any
) -> None:
    write("task/train.jsonl", sentences)
    write("task/validation.jsonl", sentences[:8])
    write("task/test.jsonl", [{"sentence": "good", "label": -1}] * 5)
    data = load_task(TaskSpec(source=str(tmp_path / "task")), tokenizer)
    assert len(data.test) == 8
    assert len(data.validation) == 4


def test_a_text_task_needs_a_tokenizer(write: Any, sentences: list[dict[str, Any]]) -> None:
    with pytest.raises(ModelError, match="has no tokenizer"):
        load_task(TaskSpec(source=str(write("d.jsonl", sentences))), None)


TAGGED = [
    {"tokens": ["obama", "visited", "paris", "."], "ner_tags": ["B-PER", "O", "B-LOC", "O"]},
    {"tokens": ["angela", "merkel", "lives"], "ner_tags": ["B-PER", "I-PER", "O"]},
]


def test_tags_sit_on_the_first_token_of_each_word(write: Any, tokenizer: Any) -> None:
    data = load_task(TaskSpec(source=str(write("d.jsonl", TAGGED * 10))), tokenizer)
    assert data.label_names == ["O", "B-LOC", "B-PER", "I-PER"]
    assert (data.metric, data.floor) == ("f1", 0.0)
    at = int(np.flatnonzero(data.train.rows % 2 == 0)[0])
    assert data.train.batch(np.array([at]))["labels"].tolist() == [[IGNORED, 2, 0, 1, 0, IGNORED]]
    assert isinstance(data.train, TagSplit)
    assert data.train.words.row(at).tolist() == [IGNORED, 0, 1, 2, 3, IGNORED]


def test_only_the_first_sub_word_carries_the_tag() -> None:
    from analysis.engine.tasks_token import _firsts

    assert _firsts([None, 0, 0, 1, 2, 2, None]) == [IGNORED, 0, IGNORED, 1, 2, IGNORED, IGNORED]


def test_tags_that_mark_no_entities_are_scored_by_word(write: Any, tokenizer: Any) -> None:
    rows = [{"tokens": ["the", "film", "is"], "tags": ["DET", "NOUN", "NOUN"]}] * 20
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows))), tokenizer)
    assert (data.metric, data.floor) == ("accuracy", pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"tokens": ["a", "b"], "ner_tags": ["O"]}, "1 tags for 2 words"),
        ({"tokens": "a b", "ner_tags": ["O", "O"]}, "needs a list of words"),
        ({"tokens": [], "ner_tags": []}, "needs a list of words"),
        ({"tokens": ["a"], "ner_tags": None}, "None for 1 words"),
        ({"tokens": ["a"], "ner_tags": [1]}, "mixes tags of types"),
    ],
)
def test_tagged_rows_that_cannot_be_used(write: Any, tokenizer: Any, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        load_task(
            TaskSpec(source=str(write("d.jsonl", [*TAGGED, row])), kind="token-classification"), tokenizer
        )
    assert words in str(caught.value)


def test_a_tag_that_train_does_not_have(write: Any, tokenizer: Any, tmp_path: Any) -> None:
    write("task/train.jsonl", TAGGED * 10)
    write("task/validation.jsonl", [{"tokens": ["rome"], "ner_tags": ["B-ORG"]}])
    with pytest.raises(DataError, match=r"'B-ORG' in row 1 of validation.jsonl.*has O, B-LOC, B-PER, I-PER"):
        load_task(TaskSpec(source=str(tmp_path / "task")), tokenizer)


def question(answer: str, context: str, row: int = 0) -> dict[str, Any]:
    return {
        "question": "when was the actor born ?",
        "context": context + f" film{row}",
        "answers": {"text": [answer], "answer_start": [context.index(answer)]},
    }


def test_windows_cover_a_long_context_and_the_answer(write: Any, tokenizer: Any) -> None:
    context = (
        "the good film is not bad and " * 6 + "merkel was born in rome in a small city . " + "a dog sat " * 5
    )
    rows = [question("born in rome", context, row) for row in range(20)]
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows)), max_length=40), tokenizer)
    split = data.train
    assert isinstance(split, AnswerSplit)
    assert len(split) > len(split.source)
    assert split.lengths.max() == 40
    held = np.flatnonzero(split.windows.first > 0)
    assert set(split.windows.example[held]) == set(range(len(split.source)))
    for window in held:
        example = split.windows.example[window]
        begin = split.windows.begin.row(window)[split.windows.first[window]]
        end = split.windows.end.row(window)[split.windows.last[window]]
        assert split.contexts[example][begin:end] == "born in rome"
    fields = split.batch(EVERY)
    assert {"start_positions", "end_positions", "token_type_ids"} <= fields.keys()
    assert split.rows.shape == (len(split),)


def test_a_very_long_question_leaves_room_for_the_context(write: Any, tokenizer: Any) -> None:
    rows = [question("rome", f"obama visited rome {i}", i) | {"question": "who won " * 50} for i in range(20)]
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows)), max_length=32), tokenizer)
    assert (data.train.batch(EVERY)["start_positions"] > 0).all()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"text": [], "answer_start": []}, "at least one"),
        ({"text": ["rome"]}, "at least one"),
        (["rome"], "at least one"),
        (
            {"text": ["rome"], "answer_start": [3]},
            "'rome' in row 2 of d.jsonl, column 'answers', does not begin at character 3",
        ),
        ({"text": ["rome"], "answer_start": [-4]}, "does not begin at character -4"),
    ],
)
def test_answers_that_cannot_be_used(write: Any, tokenizer: Any, answers: Any, words: str) -> None:
    rows = [
        question("rome", "obama visited rome"),
        question("rome", "obama visited rome") | {"answers": answers},
    ]
    with pytest.raises(DataError) as caught:
        load_task(TaskSpec(source=str(write("d.jsonl", rows)), kind="question-answering"), tokenizer)
    assert words in str(caught.value)


def pictures(count: int, cell: Any) -> list[dict[str, Any]]:
    return [{"pixel_values": cell, "label": i % 2} for i in range(count)]


def test_number_pictures_reach_the_model_as_they_are(write: Any) -> None:
    cell = [[0.0, 0.25], [0.5, 1.0]]
    data = load_task(TaskSpec(source=str(write("d.jsonl", pictures(20, cell)))), None)
    fields = data.train.batch(EVERY)
    assert fields["pixel_values"].shape == (3, 1, 2, 2)
    assert fields["pixel_values"][0, 0].tolist() == cell
    assert data.train.lengths.tolist() == [1] * len(data.train)


def test_encoded_pictures_are_decoded(tmp_path: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (255, 0, 0)).save(stream, "PNG")
    rows = [{"image": {"bytes": stream.getvalue(), "path": None}, "label": i % 2} for i in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    data = load_task(TaskSpec(source=str(tmp_path / "d.parquet")), None)
    values = data.train.batch(EVERY)["pixel_values"]
    assert values.shape == (3, 3, 3, 4)
    assert values[0, :, 0, 0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("cell", ["text", [1, 2], [[1.0], [2.0, 3.0]], None, []])
def test_pictures_that_are_none(write: Any, cell: Any) -> None:
    with pytest.raises(DataError, match=r"picture in row 1 of d.jsonl, column 'pixel_values'"):
        load_task(TaskSpec(source=str(write("d.jsonl", pictures(20, cell)))), None)


def test_pictures_of_different_shapes(write: Any) -> None:
    rows = [*pictures(20, [[0.0, 1.0]]), *pictures(20, [[0.0], [1.0]])]
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows))), None)
    with pytest.raises(DataError, match="give all pictures one shape"):
        data.train.batch(np.arange(len(data.train)))
