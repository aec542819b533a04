"""Loading models and tokenizers: safetensors only, never remote code, and a head that the seed decides."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analysis.engine import columns as cols
from analysis.engine.data import TaskData
from analysis.engine.model_files import read_config, reads_text, require_credible, resolve
from analysis.errors import ModelError

import torch  # isort: skip
import transformers  # isort: skip
from torch import nn  # isort: skip

__all__ = ["load_model", "load_tokenizer", "resolve"]

log = logging.getLogger(__name__)

HEADS: dict[str, Any] = {
    cols.CLASSIFICATION: transformers.AutoModelForSequenceClassification,
    cols.REGRESSION: transformers.AutoModelForSequenceClassification,
    cols.ANSWERS: transformers.AutoModelForQuestionAnswering,
    cols.TOKENS: transformers.AutoModelForTokenClassification,
    cols.IMAGES: transformers.AutoModelForImageClassification,
}
# These count positions from pad_token_id + 1, so that many rows of the position table are never used.
SHIFTED = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "xlm-roberta-xl",
    "mpnet",
    "longformer",
    "roberta-prelayernorm",
    "data2vec-text",
)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' reports: a new head is expected, and missing weights get our own sentence."""
    reports = transformers.utils.logging
    level, bars = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity_error()
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()


def load_tokenizer(name: str, runs: Path | None = None) -> Any:
    """Load what turns a task's rows into the model's inputs.

    Args:
        name: model name, see `resolve`.
        runs: folder of runs that "run:ID" refers to.

    Returns:
        A tokenizer that has a padding token and knows the model's longest input, an image processor, or None
        when the
        model has neither and takes pixel values as they are.

    Raises:
        ModelError: the model is missing, or its tokenizer is damaged.
    """
    folder = resolve(name, runs)
    if reads_text(folder):
        return _tokenizer(folder, name)
    if any((folder / file).is_file() for file in ("preprocessor_config.json", "processor_config.json")):
        with _quiet(), _sentence(name, "image processor"):
            return transformers.AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    return None


def _tokenizer(folder: Path, name: str) -> Any:
    """Load a tokenizer, and make it fit the model: padding token, longest input, segments."""
    with _quiet(), _sentence(name, "tokenizer"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    if not tokenizer.is_fast:
        raise ModelError(
            f"The tokenizer of {name} has no fast form (tokenizer.json); give a model that has one."
        )
    tokenizer.padding_side = "right"
    words = getattr(config, "vocab_size", None) or len(tokenizer)
    if tokenizer.vocab_size > words:
        raise ModelError(
            f"The tokenizer of {name} knows {tokenizer.vocab_size} tokens but the model only {words}; copy "
            "the tokenizer that belongs to the model."
        )
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    if (pad is None or pad >= words) and end is not None:
        tokenizer.pad_token = tokenizer.eos_token
    limit = getattr(config, "max_position_embeddings", None)
    if isinstance(limit, int) and limit > 0:
        unused = int(config.pad_token_id or 0) + 1 if config.model_type in SHIFTED else 0
        tokenizer.model_max_length = min(tokenizer.model_max_length, limit - unused)
    if getattr(config, "type_vocab_size", 0) < 2:
        tokenizer.model_input_names = [key for key in tokenizer.model_input_names if key != "token_type_ids"]
    return tokenizer


@contextmanager
def _sentence(name: str, what: str) -> Iterator[None]:
    """Turn whatever a damaged or unknown file makes a library raise into one sentence."""
    try:
        yield
    except (MemoryError, ModelError):
        raise
    except Exception as error:
        log.info("loading the %s of %s", what, name, exc_info=True)
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(
            f"The {what} of {name} cannot be loaded ({type(error).__name__}: {reason}); copy the model again "
            "or give another."
        ) from error


def load_model(
    name: str, data: TaskData, seed: int, runs: Path | None = None, *, trained: bool = False
) -> nn.Module:
    """Load a model with the head that a task needs, in float32.

    Args:
        name: model name, see `resolve`.
        data: the task; decides the head and its size.
        seed: decides the initial values of whatever the head lacks; the global random state is left alone.
        runs: folder of runs that "run:ID" refers to.
        trained: whether a head that the file lacks, or has in another size, is refused too.

    Returns:
        A transformers model in train mode.

    Raises:
        ModelError: missing, damaged, without such a head, or with weights outside the head missing.
    """
    folder = resolve(name, runs)
    require_credible(folder, name)
    with _quiet(), _sentence(name, "model"):
        config = _config(folder, data)
        _check_head(config, name, data.kind)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, report = HEADS[data.kind].from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                key_mapping=_renamed(config, data.kind),
            )
    _check_report(model, report, name)
    if trained:
        _check_trained(report, folder, name, data)
    model.train()
    return model


def _config(folder: Path, data: TaskData) -> Any:
    """Return the model's configuration with the task's head."""
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if data.kind == cols.ANSWERS:
        return config
    names = data.label_names or [f"LABEL_{index}" for index in range(data.num_labels)]
    config.id2label = dict(enumerate(names))
    config.label2id = {label: index for index, label in enumerate(names)}
    if data.problem_type and data.kind != cols.TOKENS:
        config.problem_type = data.problem_type
    if getattr(config, "pad_token_id", None) is None and data.kind != cols.IMAGES:
        config.pad_token_id = data.pad
    return config


def _check_head(config: Any, name: str, kind: str) -> None:
    """Refuse a model family that has no head for the task."""
    if type(config) in HEADS[kind]._model_mapping:
        return
    fits = [other for other, head in HEADS.items() if type(config) in head._model_mapping]
    can = f"it can do {', '.join(fits)}" if fits else "it has none that is used here"
    raise ModelError(
        f"The model {name} ({config.model_type}) has no head for {kind}; {can}: choose another model or "
        "another task."
    )


def _renamed(config: Any, kind: str) -> dict[str, str] | None:
    """Map weight names where a family calls its body otherwise under this head, as Llama does for answers."""
    family: Any = transformers.AutoModel._model_mapping[type(config)]
    body, wanted = family.base_model_prefix, HEADS[kind]._model_mapping[type(config)].base_model_prefix
    return None if body == wanted else {rf"^{body}\.": f"{wanted}."}


def _check_report(model: Any, report: dict[str, Any], name: str) -> None:
    """Accept a new or resized head; anything else missing would be random numbers inside the model."""
    prefix = f"{model.base_model_prefix}."
    resized = [entry[0] if isinstance(entry, tuple) else entry for entry in report["mismatched_keys"]]
    lost = sorted(
        key for key in (*report["missing_keys"], *resized) if key.startswith(prefix) and ".pooler." not in key
    )
    if lost or report["error_msgs"]:
        what = (
            f"lacks {len(lost)} weights, such as {lost[0]}"
            if lost
            else f"has errors: {report['error_msgs'][0]}"
        )
        raise ModelError(
            f"The weights of {name} do not fit its config.json: the file {what}, in the right shape; copy "
            "the model again."
        )


def _check_trained(report: dict[str, Any], folder: Path, name: str, data: TaskData) -> None:
    """Refuse a model of which a part would be new: what it answers would be chance."""
    for key, stored, wanted in report["mismatched_keys"]:
        shapes = [" × ".join(map(str, shape)) for shape in (stored, wanted)]
        raise ModelError(
            f"The head of {name} was trained for other labels: {key} is {shapes[0]} in its file and the "
            f"task, with {data.num_labels} labels, needs {shapes[1]}; give the task it was trained on, or a "
            "model trained on this one."
        )
    if lost := sorted(report["missing_keys"]):
        saved = read_config(folder, name).get("architectures")
        kind = f" (it was saved as {str(saved[0])[:60]})" if isinstance(saved, list) and saved else ""
        raise ModelError(
            f"{name} has no trained head for {data.kind}{kind}: its file lacks {' and '.join(lost[:2])}, and "
            "a head of random numbers has no accuracy to measure; run the recipe dense on the task first and "
            "give that run:ID, or give a fine-tuned model."
        )
