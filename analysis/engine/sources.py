"""Where a task's rows come from: a bundled task, a file, a folder with named splits, or a hub dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.engine import hub
from analysis.engine.files import ALLOWED, Table, from_records, read, suffix, table
from analysis.errors import DataError

BUNDLED = "bundled:"
VALIDATION = ("validation", "dev", "valid", "val")
DEV_SHARE = 0.1
DEV_MOST = 2000
FEWEST = 6


@dataclass(frozen=True)
class Files:
    """The splits that a source holds, before any is cut.

    Args:
        train: rows to learn from.
        validation: rows of the source's own validation split, or None.
        test: rows of the source's own test split, or None.
    """

    train: Table
    validation: Table | None = None
    test: Table | None = None

    def tables(self) -> list[Table]:
        """Return the splits that exist, train first."""
        return [split for split in (self.train, self.validation, self.test) if split is not None]

    def replaced(self, tables: Sequence[Table]) -> Files:
        """Return the same splits with other tables, in the order of `tables`."""
        after = iter(tables)
        train = next(after)
        validation = (
            next(after) if self.validation is not None else None
        )  # an empty table is false, yet there
        return Files(train, validation, next(after) if self.test is not None else None)


def load(source: str) -> Files:
    """Read the splits of a source.

    Args:
        source: "bundled:NAME", a path, a name under $PRUNING_LAB_DATA, or a hub dataset as "owner/name" or
            "owner/name:configuration".

    Returns:
        Its splits.

    Raises:
        DataError: not on this machine, or unusable.
    """
    if source.startswith(BUNDLED):
        return _bundled(source.removeprefix(BUNDLED))
    path = Path(source).expanduser()
    if not path.exists():
        found = hub.under(hub.DATA, source)
        if found is None and (hub.looks_like_path(source) or suffix(path)):
            raise DataError(
                f"{source} does not exist on this machine; give an existing file ({ALLOWED}) or folder."
            )
        if found is None:
            return _hub(source)
        path = found
    return _folder(path) if path.is_dir() else Files(read(path))


def _bundled(name: str) -> Files:
    """Return the rows of a task that ships with the project."""
    from analysis import bundle

    if name not in bundle.TASKS:
        known = ", ".join(BUNDLED + task for task in bundle.TASKS)
        raise DataError(f"{BUNDLED}{name} is not a bundled task; the bundled tasks are {known}.")
    names = {"label": list(bundle.TASKS[name]["label_names"])}
    train, validation, test = (
        replace(from_records(f"{name} {split}", bundle.rows(name, split)), names=names)
        for split in bundle.SPLITS
    )
    return Files(train, validation, test)


def _folder(path: Path) -> Files:
    """Return the splits of a folder that holds train.*, validation.* and perhaps test.*."""
    train = _split(path, ("train",))
    if train is None:
        here = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise DataError(
            f"The folder {path} has no train file; it holds {here}: add train{ALLOWED.split(', ')[0]} or the "
            "like."
        )
    validation, test = _split(path, VALIDATION), _split(path, ("test",))
    return Files(read(train), read(validation) if validation else None, read(test) if test else None)


def _split(path: Path, stems: Sequence[str]) -> Path | None:
    """Return the one file of a folder whose name without the format is among the stems."""
    found = [
        entry
        for entry in sorted(path.iterdir())
        if suffix(entry) and entry.name[: -len(suffix(entry))].lower() in stems
    ]
    if len(found) > 1:
        raise DataError(
            f"The folder {path} has several {stems[0]} files ({', '.join(entry.name for entry in found)}); "
            "leave one."
        )
    return found[0] if found else None


def _hub(source: str) -> Files:
    """Return the splits of a hub dataset, from its cache unless downloads are allowed."""
    name, _, configuration = source.partition(":")
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise DataError(
            f"{source} is a hub dataset, which needs the package datasets; run pip install datasets."
        ) from error
    datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(name, configuration or None)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(_absent(source, error)) from error
    tables = {split: _from_dataset(f"{source} {split}", found[split]) for split in found}
    if "train" not in tables:
        raise DataError(f"The hub dataset {source} has no train split; it has {', '.join(tables)}.")
    validation = next((tables[s] for s in (*VALIDATION, "validation_matched") if s in tables), None)
    return Files(tables["train"], validation, tables.get("test"))


def _absent(source: str, error: Exception) -> str:
    """Say why a hub dataset is not available and how to get it."""
    known = os.environ.get(hub.DATA, "")
    tried = f"the folder {known} and " if known else ""
    if hub.online() or not isinstance(error, ConnectionError):
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        return (
            f"The dataset {source} could not be loaded ({reason}); check its name, or give a "
            f"local file ({ALLOWED})."
        )
    return (
        f"The dataset {source} is not on this machine (tried {tried}the Hugging Face cache); set "
        f"{hub.ONLINE}=1 to download it, or give a local file ({ALLOWED}), a folder, or bundled:opinions."
    )


def _from_dataset(name: str, rows: Any) -> Table:
    """Turn one split of `datasets` into columns, keeping declared label names."""
    from datasets import Image

    names: dict[str, list[str]] = {}
    for column, feature in rows.features.items():
        if isinstance(feature, Image):
            rows = rows.cast_column(column, Image(decode=False))
        inner = getattr(feature, "feature", feature)
        if hasattr(inner, "names"):
            names[column] = list(inner.names)
    return table(name, {column: rows[column][:] for column in rows.column_names}, names)


def arrange(files: Files, *, group: str = "", train_rows: int = 0, eval_rows: int = 0) -> dict[str, Table]:
    """Cut the splits that a run uses; settings are chosen on validation, never on test.

    With a test split in the source, its validation and test are used as they are (validation is cut from
    train if the
    source has none). Without one, the source's validation becomes the test split and a tenth of train, at
    most 2,000
    rows, becomes validation. A single file gives both. The cut depends on the number of rows only.

    Args:
        files: labelled splits of the source.
        group: column whose equal values stay on one side of a cut, such as the context of questions; "" =
            none.
        train_rows: rows of train to keep, 0 = all.
        eval_rows: rows of validation and of test to keep, each, 0 = all.

    Returns:
        {"train", "validation", "test"}.

    Raises:
        DataError: too few rows to cut.
    """
    train, validation, test = files.train, files.validation, files.test
    if test is None and validation is not None:
        test, validation = validation, None
    if test is None:
        train, test = _cut(train, group, salt=1)
    if validation is None:
        train, validation = _cut(train, group, salt=2)
    return {
        "train": _limit(train, train_rows),
        "validation": _limit(validation, eval_rows),
        "test": _limit(test, eval_rows),
    }


def order(count: int, salt: int) -> np.ndarray:
    """Return a shuffle that no library version changes: positions sorted by a 64-bit mix.

    Args:
        count: number of positions, ≥ 0.
        salt: which shuffle.

    Returns:
        A permutation of 0 … count-1, int64 [count].
    """
    with np.errstate(over="ignore"):
        mixed = (
            np.arange(count, dtype=np.uint64) + np.uint64(salt) * np.uint64(0xD1B54A32D192ED03)
        ) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return np.argsort(mixed, kind="stable")


def _cut(rows: Table, group: str, salt: int) -> tuple[Table, Table]:
    """Cut a tenth off, whole groups at a time."""
    count = len(rows)
    if count < FEWEST:
        raise DataError(
            f"{rows.name} has {count} rows, too few to set some aside for evaluation; give at least "
            f"{FEWEST}, or a folder with train and validation files."
        )
    wanted = min(DEV_MOST, max(1, round(DEV_SHARE * count)))
    if not group:
        shuffled = order(count, salt)
        return rows.take(np.sort(shuffled[wanted:])), rows.take(np.sort(shuffled[:wanted]))
    numbers: dict[Any, int] = {}
    member = np.asarray([numbers.setdefault(value, len(numbers)) for value in rows.columns[group]])
    shuffled = order(len(numbers), salt)
    sizes = np.bincount(member, minlength=len(numbers))[shuffled]
    chosen = shuffled[: int(np.searchsorted(np.cumsum(sizes), wanted)) + 1]
    aside = np.isin(member, chosen)
    if aside.all():
        return _cut(rows, "", salt)
    return rows.take(np.flatnonzero(~aside)), rows.take(np.flatnonzero(aside))


def _limit(rows: Table, most: int) -> Table:
    """Keep at most so many rows, spread over the file."""
    if most == 0 or most >= len(rows):
        return rows
    return rows.take(np.sort(order(len(rows), salt=3)[:most]))
