"""Where rows come from, and how they are cut: settings on validation, results on test."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.engine import sources
from analysis.engine.files import Table, table
from analysis.errors import DataError


def numbered(count: int, name: str = "t") -> Table:
    return table(name, {"text": [str(i) for i in range(count)], "label": [i % 2 for i in range(count)]})


def test_a_single_file_gives_three_disjoint_splits() -> None:
    parts = sources.arrange(sources.Files(numbered(200)))
    sizes = {name: len(part) for name, part in parts.items()}
    assert sizes == {"train": 162, "validation": 18, "test": 20}
    rows = np.concatenate([part.rows for part in parts.values()])
    assert sorted(rows.tolist()) == list(range(200))
    assert all(part.columns["text"] == [str(row) for row in part.rows] for part in parts.values())


def test_the_cut_is_the_same_every_time_and_on_every_machine() -> None:
    assert sources.order(8, 1).tolist() == sources.order(8, 1).tolist()
    assert sorted(sources.order(1000, 2).tolist()) == list(range(1000))
    assert sources.order(8, 1).tolist() != sources.order(8, 2).tolist()
    assert sources.order(8, 1).tolist() == [6, 7, 4, 2, 5, 0, 1, 3]


def test_validation_without_test_becomes_the_test_split() -> None:
    parts = sources.arrange(sources.Files(numbered(100, "train"), numbered(30, "validation")))
    assert {name: (part.name, len(part)) for name, part in parts.items()} == {
        "train": ("train", 90),
        "validation": ("train", 10),
        "test": ("validation", 30),
    }


def test_a_labelled_test_split_is_used_as_it_is() -> None:
    parts = sources.arrange(sources.Files(numbered(50, "a"), numbered(20, "b"), numbered(10, "c")))
    assert [(part.name, len(part)) for part in parts.values()] == [("a", 50), ("b", 20), ("c", 10)]


def test_a_large_train_split_lends_at_most_two_thousand_rows() -> None:
    parts = sources.arrange(sources.Files(numbered(30_000), numbered(5, "v")))
    assert len(parts["validation"]) == sources.DEV_MOST == 2000


def test_limits_keep_a_spread_of_rows() -> None:
    parts = sources.arrange(sources.Files(numbered(1000), numbered(100, "v")), train_rows=50, eval_rows=7)
    assert [len(part) for part in parts.values()] == [50, 7, 7]
    assert parts["train"].rows.max() > 500
    assert np.all(np.diff(parts["train"].rows) > 0)


def test_groups_are_never_torn() -> None:
    rows = table("t", {"context": [f"c{i // 5}" for i in range(100)], "label": [0] * 100})
    parts = sources.arrange(sources.Files(rows), group="context")
    owners = [set(part.columns["context"]) for part in parts.values()]
    assert not (owners[0] & owners[1] or owners[0] & owners[2] or owners[1] & owners[2])
    assert all(owners)


def test_too_few_rows_to_cut() -> None:
    with pytest.raises(DataError, match="has 5 rows, too few"):
        sources.arrange(sources.Files(numbered(5)))


def test_a_folder_with_named_splits(write: Any, sentences: list[dict[str, Any]], tmp_path: Path) -> None:
    write("task/train.jsonl.gz", sentences)
    write("task/dev.jsonl", sentences[:10])
    write("task/train_more.jsonl", sentences)
    (tmp_path / "task" / "notes.md").write_text("not data")
    files = sources.load(str(tmp_path / "task"))
    assert [part.name for part in files.tables()] == ["train.jsonl.gz", "dev.jsonl"]
    write("task/test.jsonl", sentences[:5])
    found = sources.load(str(tmp_path / "task")).test
    assert found is not None
    assert len(found) == 5


def test_folders_that_cannot_be_used(write: Any, sentences: list[dict[str, Any]], tmp_path: Path) -> None:
    write("a/validation.jsonl", sentences)
    with pytest.raises(DataError, match=r"has no train file; it holds validation.jsonl"):
        sources.load(str(tmp_path / "a"))
    write("b/train.jsonl", sentences)
    write("b/train.jsonl.gz", sentences)
    with pytest.raises(DataError, match="several train files"):
        sources.load(str(tmp_path / "b"))


def test_a_bare_name_is_found_in_the_data_folder(
    write: Any, sentences: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("mine/train.jsonl", sentences)
    monkeypatch.setenv("PRUNING_LAB_DATA", str(tmp_path))
    assert len(sources.load("mine").train) == 40
    assert len(sources.load("mine/train.jsonl").train) == 40
    with pytest.raises(DataError):
        sources.load("../" + tmp_path.name + "/mine")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/nowhere/train.jsonl", "does not exist on this machine"),
        ("mine.csv", "does not exist on this machine"),
        ("bundled:nothing", "not a bundled task"),
        ("nyu-mll/no-such-set", "not on this machine"),
        ("no-such-set:config", "PRUNING_LAB_ONLINE=1"),
    ],
)
def test_absent_sources_answer_at_once(source: str, words: str) -> None:
    import datasets  # noqa: F401  (its import is not part of the answer)

    begun = time.monotonic()
    with pytest.raises(DataError) as caught:
        sources.load(source)
    assert words in str(caught.value)
    assert source in str(caught.value)
    assert time.monotonic() - begun < 2.0


def test_a_dataset_of_the_hub_library_keeps_its_label_names() -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    rows = datasets.Dataset.from_list(
        [{"text": "a", "label": 1}, {"text": "b", "label": 0}], features=features
    )
    found = sources._from_dataset("set train", rows)
    assert found.columns == {"text": ["a", "b"], "label": [1, 0]}
    assert found.names == {"label": ["no", "yes"]}


def test_a_dataset_in_the_cache_is_found_offline(
    write: Any, sentences: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    datasets.disable_progress_bars()
    cache = tmp_path / "cache"
    datasets.load_dataset(
        "json", data_files={"train": str(write("d.jsonl", sentences))}, cache_dir=str(cache)
    )
    made = next(cache.glob("json/*/*/*/dataset_info.json")).parent
    kept = cache / "owner___set" / "plain" / "0.0.0" / made.name
    shutil.copytree(made, kept)
    (kept / "json-train.arrow").rename(kept / "set-train.arrow")
    info = json.loads((kept / "dataset_info.json").read_text())
    names = {"builder_name": "set", "dataset_name": "set", "config_name": "plain"}
    (kept / "dataset_info.json").write_text(json.dumps({**info, **names}))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    assert sources.load("owner/set:plain").train.columns["sentence"] == [row["sentence"] for row in sentences]
    with pytest.raises(DataError, match=r"owner/set:other could not be loaded .*plain"):
        sources.load("owner/set:other")


def test_pictures_of_the_hub_library_stay_encoded() -> None:
    import datasets
    from PIL import Image

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = datasets.Dataset.from_dict({"image": [Image.new("L", (2, 2))], "label": [1]}, features=features)
    cell = sources._from_dataset("set train", rows).columns["image"][0]
    assert cell["bytes"].startswith(b"\x89PNG")
