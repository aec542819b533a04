"""Models by name, and the gate every model folder passes before anything opens it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from analysis.engine import hub
from analysis.engine.inspect import config
from analysis.engine.inspect.config import MAX_CONFIG
from analysis.engine.inspect.files import files_of
from analysis.engine.inspect.header import read_header
from analysis.errors import ModelError

BUNDLED = ("bundled:text", "bundled:digits")
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")


TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
)


def reads_text(folder: Path) -> bool:
    """Tells from the files of a model folder whether it has a tokenizer."""
    return any((folder / name).is_file() for name in TOKENIZERS)


def wrong_input(task: str, *, pictures: bool) -> ModelError:
    """Says that a model reads something else than a task holds.

    Args:
        task: source of the task.
        pictures: True when the task holds pictures and the model reads text, False for the reverse.
    """
    if pictures:
        return ModelError(
            f"The task {task} holds pictures but the model reads text; choose an image model, such as "
            f"{BUNDLED[1]}, or a text task."
        )
    return ModelError(
        f"The task {task} is text but the model has no tokenizer; choose a text model, such as "
        f"{BUNDLED[0]}, or an image task."
    )


def resolve(name: str, runs: Path | None = None) -> Path:
    """Find the folder of a model.

    Args:
        name: "bundled:text", "bundled:digits", "run:ID", a local folder, a name under $PRUNING_LAB_MODELS or
            a hub id.
        runs: folder of runs that "run:ID" refers to; None = the default one.

    Returns:
        A folder with config.json and safetensors weights.

    Raises:
        ModelError: not on this machine, or not a model that can be loaded.
    """
    if name.startswith("bundled:"):
        return check_folder(bundled(name), name)
    if name.startswith("run:"):
        return check_folder(_run(name.removeprefix("run:"), runs), name)
    path = Path(name).expanduser()
    found = path if path.exists() else hub.under(hub.MODELS, name)
    if found is None:
        if hub.looks_like_path(name):
            raise ModelError(
                f"{name} does not exist on this machine; give an existing model folder, a hub id or "
                f"{BUNDLED[0]}."
            )
        found = hub.snapshot(name, WANTED, lambda reason: _absent(name, reason))
    if not found.is_dir():
        raise ModelError(f"{name} is a file; give the folder that holds config.json and {WEIGHTS}.")
    return check_folder(found, name)


def bundled(name: str) -> Path:
    """Return the folder of a bundled model.

    Raises:
        ModelError: there is none of that name.
    """
    from analysis import bundle

    if name not in BUNDLED:
        raise ModelError(f"{name} is not a bundled model; the bundled models are {' and '.join(BUNDLED)}.")
    return bundle.MODELS[name.removeprefix("bundled:")]


def _run(identifier: str, runs: Path | None) -> Path:
    """Return the folder of the model that a run wrote."""
    from analysis.store import layout

    folder = layout.run_path(runs or layout.default_runs_dir(), identifier) / "model"
    if not folder.parent.is_dir():
        raise ModelError(f"There is no run {identifier}; `list` and the monitor show which there are.")
    if not folder.is_dir():
        raise ModelError(
            f"The run {identifier} has no model in {folder.parent}; wait until it is done, or name another "
            "run."
        )
    return folder


def _absent(name: str, reason: str) -> ModelError:
    """Say that a model is missing and how to get it."""
    known = os.environ.get(hub.MODELS, "")
    tried = f", nor in {known}" if known else ""
    help_ = "check its name" if hub.online() else f"set {hub.ONLINE}=1 to download it"
    return ModelError(
        f"The model {name} {reason}{tried}; {help_}, or give a local folder with config.json and {WEIGHTS}, "
        f"or {BUNDLED[0]}."
    )


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Read a model folder's config.json.

    Args:
        folder: the folder.
        name: what the user typed, for error sentences.

    Returns:
        Its content.

    Raises:
        ModelError: there is none, it is not JSON, or it does not describe a transformers model.
    """
    path = folder / "config.json"
    if not path.is_file():
        here = ", ".join(sorted(entry.name for entry in folder.iterdir())[:6]) if folder.is_dir() else ""
        raise ModelError(
            f"{name} has no config.json (it holds {here or 'nothing'}); give a Hugging Face model folder."
        )
    try:
        if (size := path.stat().st_size) > MAX_CONFIG:
            raise ValueError(f"it has {size} bytes, and no real one has more than {MAX_CONFIG}")
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_constant)
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(
            f"config.json of {name} cannot be read as JSON ({error}); copy the model again."
        ) from error
    if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
        raise ModelError(
            f"config.json of {name} names no model_type, so it is no transformers model; give one that is."
        )
    # A look before the start has no transformers, and must not load it; a worker has, and knows the kinds.
    transformers = sys.modules.get("transformers")
    if transformers is not None and found["model_type"] not in transformers.CONFIG_MAPPING:
        raise ModelError(
            f"{name} is of the kind {found['model_type']!r}, which transformers {transformers.__version__} "
            "does not know; give a model of a known kind, such as bert, roberta, vit or llama: code that "
            "comes with a model is never run."
        )
    if found.get("quantization_config"):
        raise ModelError(
            f"{name} is quantised, and pruning needs its weights as floats; give the unquantised model."
        )
    if any("/" in str(value) for key, value in found.items() if "attn_implementation" in key):
        raise ModelError(
            f"{name} asks for attention code from the hub, which is never run; remove that from its "
            "config.json."
        )
    return found


def _constant(word: str) -> float:
    """Read the constants that Python allows in JSON; a limit may be Infinity, nothing may be NaN."""
    if word == "NaN":
        raise ValueError("it holds NaN, which is no number")
    return float(word)


def require_credible(folder: Path, name: str) -> None:
    """Hold config.json against the headers of the weights, so that nothing is built that they cannot fill.

    Args:
        folder: a folder that ``resolve`` returned.
        name: what the user typed, for error sentences.

    Raises:
        ModelError: a header is damaged, or the config asks for more than the weights hold.
    """
    try:
        entries = [entry for file in files_of(folder)[0] for entry in read_header(file)[0]]
    except ModelError as error:
        raise ModelError(f"The model of {name} cannot be loaded: {error}") from None
    config.require_credible(read_config(folder, name), entries, name)


def check_folder(folder: Path, name: str) -> Path:
    """Check that a folder is a model that can be loaded without running anything it brings.

    Args:
        folder: the folder.
        name: what the user typed, for error sentences.

    Returns:
        The folder.

    Raises:
        ModelError: no config, weights missing or only in pickle form, or an index that points outside the
            folder.
    """
    read_config(folder, name)
    if (folder / WEIGHTS).is_file():
        return folder
    if (folder / INDEX).is_file():
        _check_index(folder, name)
        return folder
    pickles = sorted(entry.name for entry in folder.iterdir() if entry.suffix in PICKLES)
    if pickles:
        raise ModelError(
            f"{name} has its weights only in {pickles[0]}, which can run code when it is opened; convert it "
            f"to {WEIGHTS}, for instance with save_pretrained on a machine that trusts it."
        )
    raise ModelError(f"{name} has no {WEIGHTS}; the weights are missing: copy them into {folder}.")


def _check_index(folder: Path, name: str) -> None:
    """Refuse an index that is broken, or that would open a file outside the folder."""
    try:
        mapped = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(mapped.values()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ModelError(f"{INDEX} of {name} has no readable weight_map; copy the model again.") from error
    for shard in shards:
        if (
            not isinstance(shard, str)
            or Path(shard).name != shard
            or not shard.endswith(".safetensors")
            or "\\" in shard
        ):
            raise ModelError(
                f"{INDEX} of {name} points to {shard!r}; only .safetensors files of the same folder are "
                "opened: do not use this model unless you know why."
            )
        if not (folder / shard).is_file():
            raise ModelError(
                f"{name} lacks the weight file {shard} that its index names; copy it into {folder}."
            )
