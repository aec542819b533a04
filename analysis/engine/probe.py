"""What an opened model is worth, and what one-shot cuts would cost: measured in a process of its own.

``python -m analysis.engine.probe OUT`` does what OUT/request.json asks for. A folder belongs to one model on
one task; what is already there is not measured again, so that a second start goes on where the first was
stopped, and other keeps are added to those there are. This module is free of torch, so that the server may
ask and the process holds its lock at once.

request.json     the wish, a ``ProbeSpec`` as JSON, and ``runs``, the folder of "run:ID"
about.json       model, task, metric, split, its rows, floor, weights and zeros, device and threads
points.parquet   one row a measured point, rewritten whole after each: ``POINTS``. keep 1 has no by and scope
latency.parquet  one row a form of the model at the smallest keep of the last wish: ``LATENCY``
job.json, lock, stop, log.txt   see ``store.jobs``
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analysis import recipes
from analysis.engine import hub, preflight
from analysis.engine.model_files import resolve
from analysis.errors import LabError, ModelError
from analysis.spec.probe import ProbeSpec, probe_from_dict, probe_to_dict
from analysis.store import arrays, jobs, layout
from analysis.store.locks import held
from analysis.store.queue import cores

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MODULE = "analysis.engine.probe"
FOLDER, KEPT = ".probes", 40
REQUEST, ABOUT, POINTS_FILE, LATENCY_FILE = "request.json", "about.json", "points.parquet", "latency.parquet"
POINTS = ("keep", "by", "scope", "state", "value", "error", "rows", "zeros", "seconds")
LATENCY = (
    *("variant", "keep", "by", "scope", "seconds", "low", "high", "ratio", "rounds"),
    *("examples", "shape", "parameters", "difference", "kernel", "reason"),
)
Point = tuple[float, str, str]


def folder_of(spec: ProbeSpec, runs: Path) -> Path:
    """The folder for what is measured of a model on a task; another one when a file of either has changed.

    Raises:
        ModelError: the model is not on this machine, or is none that can be loaded.
    """
    spec = _placed(spec)
    known = not hub.online() or hub.looks_like_path(spec.model) or ":" in spec.model
    data = hub.under(hub.DATA, spec.task.source) or Path(spec.task.source).expanduser()
    whole = {
        "schema_version": SCHEMA_VERSION,
        "model": spec.model,
        "task": asdict(spec.task),
        "rows": spec.rows,
        "model_files": list(_stamps(resolve(spec.model, runs))) if known else [],
        "task_files": list(_stamps(data)),
    }
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()
    return Path(runs) / FOLDER / digest[:24]


def _placed(spec: ProbeSpec) -> ProbeSpec:
    """The same wish with paths made absolute, because the process that reads them works elsewhere."""

    def absolute(name: str) -> str:
        if ":" in name.split("/")[0]:
            return name
        path = Path(name).expanduser()
        return str(path.resolve()) if path.exists() else name

    return spec.replace(model=absolute(spec.model), task=spec.task.replace(source=absolute(spec.task.source)))


def _stamps(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, time of change and size of a file, or of the files of a folder."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
        for file in files:
            status = file.stat()
            yield file.name, status.st_mtime_ns, status.st_size
    except OSError as error:  # said in a sentence where the file is needed
        log.info("%s has no stamp: %s", path, error)


def load(path: Path) -> list[dict[str, Any]]:
    """Reads rows that the worker wrote; none where there are none."""
    try:
        columns = arrays.load_table(path)
    except (OSError, ValueError):
        return []
    lists = {name: column.tolist() for name, column in columns.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def wanted(spec: ProbeSpec) -> list[Point]:
    """The points that a wish asks for, dense first: keep, by, scope."""
    return [(keep, "", "") if keep == 1 else (keep, spec.by, spec.scope) for keep in spec.keeps]


def verified(out: Path) -> set[Point]:
    """The points that were measured on all rows."""
    rows = load(Path(out) / POINTS_FILE)
    return {(r["keep"], r["by"], r["scope"]) for r in rows if r["state"] == "verified"}


def timed(out: Path) -> Point | None:
    """The cut whose forward passes were timed."""
    rows = load(Path(out) / LATENCY_FILE)
    return (rows[0]["keep"], rows[0]["by"], rows[0]["scope"]) if rows else None


def missing(out: Path, spec: ProbeSpec) -> int:
    """How many points of a wish are not measured on all rows yet; the timing counts as one."""
    points = wanted(spec)
    done = verified(out)
    return sum(point not in done for point in points) + (timed(out) != points[-1])


def begin(spec: ProbeSpec, runs: Path) -> Path:
    """Starts the process that measures what is missing, unless one is at work there.

    Raises:
        LabError: the model or the data is missing, or they do not go together.
    """
    preflight.check(recipes.build("dense", spec.model, spec.task), runs)
    out = folder_of(spec, runs)
    if held(out / jobs.LOCK) or not missing(out, spec):
        return out
    layout.make_runs_dir(runs)
    out.mkdir(parents=True, exist_ok=True)
    _sweep(out.parent, out)
    layout.write_json(out / REQUEST, {**probe_to_dict(_placed(spec)), "runs": str(runs)}, durable=False)
    jobs.begin(out, MODULE, str(out))
    return out


def _sweep(store: Path, but: Path) -> None:
    """Removes the oldest folders beyond the number that is kept, unless somebody works there."""
    folders = [f for f in store.iterdir() if f.is_dir() and f != but]
    folders.sort(key=lambda f: f.stat().st_mtime, reverse=True)
    for old in folders[KEPT - 1 :]:
        if not held(old / jobs.LOCK):
            shutil.rmtree(old, ignore_errors=True)


def request(out: Path) -> tuple[ProbeSpec, Path]:
    """Reads the wish of a folder, and the folder of the runs it may name.

    Raises:
        LabError: there is none, or it is not one.
    """
    try:
        found = layout.read_json(Path(out) / REQUEST)
        runs = Path(found.pop("runs"))
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ModelError(
            f"{REQUEST} of {out} cannot be read ({error}); start the measurement again."
        ) from error
    return probe_from_dict(found), runs


def asked(out: Path, spec: ProbeSpec) -> bool:
    """Whether this wish is the last one that was made of a folder."""
    try:
        return request(out)[0] == _placed(spec)
    except LabError:
        return False


def work(out: Path) -> None:
    """Does what the wish of a folder asks for, in this process.

    Raises:
        LabError: it cannot be measured; the sentence is also in the folder's note.
    """
    with jobs.Job(out, "rows") as job:
        spec, runs = request(out)
        try:
            from analysis.engine import probing  # torch takes seconds, and the lock must not wait for it

            probing.work(out, spec, runs, job)
        except (LabError, jobs.Cancelled):
            raise
        except Exception as error:
            log.exception("measuring %s", spec.model)
            raise ModelError(_sentence(error, spec, out)) from error


def _sentence(error: Exception, spec: ProbeSpec, out: Path) -> str:
    first = (str(error).strip().splitlines() or ["no message"])[0][:200]
    if isinstance(error, MemoryError) or "memory" in first.lower():
        return (
            f"There was not enough memory to measure {spec.model} with {spec.batch} examples at a time; "
            "choose a smaller batch or shorter inputs."
        )
    return (
        f"Measuring {spec.model} on {spec.task.source} ended with {type(error).__name__} ({first}); "
        f"{out / jobs.LOG} tells all."
    )


def main(arguments: list[str]) -> int:
    """Runs from the command line; one sentence on stderr and code 2 on failure."""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {os.getpid()} %(name)s: %(message)s")
    os.environ["OMP_NUM_THREADS"] = str(cores())  # torch is not imported yet; a job has one thread by default
    return jobs.run(arguments, MODULE, {"OUT": Path}, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
