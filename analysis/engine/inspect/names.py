"""What a tensor probably is, guessed from its name and shape: role, layer, and whether it is a site."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from analysis.engine.blocks import block_of

PRUNABLE = (
    "query",
    "key",
    "value",
    "query_key_value",
    "attention output",
    "ffn in",
    "ffn out",
    "conv",
    "other",
)

_QUANTISED = re.compile(
    r"(?:^|\.)(?:qweight|qzeros|scales|g_idx|absmax|quant_map|quant_state|SCB|weight_scale(?:_inv)?|"
    r"input_scale|weight_zero_point|weight_packed|weight_shape)(?:\.|$)"
)
_MASK = re.compile(r"(?:^|\.)(?:\w+_mask|parametrizations\.\w+\.\d+\.mask)$")
_SCORES = re.compile(r"(?:^|\.)(?:mask_scores|parametrizations\.\w+\.\d+\.scores)$")
# role, whole words in the name that say so, further patterns; the first role that fits is taken
_WORDS: tuple[tuple[str, str, str], ...] = (
    ("statistic", "", r"(running_mean|running_var|num_batches_tracked|position_ids|inv_freq)$"),
    ("norm", r"layernorm layer_norm norm\d* ln\w* bn\d* batchnorm\d* \w*_norm \w*layernorm", ""),
    ("head", "", r"^(\w+\.)?(linear|fc|head|output)\.bias$"),
    ("bias", "", r"(^|[._])bias(_\w+)?$"),
    ("head", "lm_head classifier score qa_outputs cls vocab_projector predictions", ""),
    ("embedding", r"\w*embed\w* token_embd wte wpe cls_token mask_token relative_attention_bias", ""),
    ("unknown", r"lora_\w+ \w*adapter\w*", ""),
    ("pooler", "pooler", ""),
    ("query_key_value", "c_attn attn_qkv qkv qkv_proj query_key_value in_proj_weight in_proj", ""),
    ("query", "query q_proj q_lin q attn_q", ""),
    ("key", "key k_proj k_lin k attn_k", ""),
    ("value", "value v_proj v_lin v attn_v", ""),
    (
        "attention output",
        "o_proj out_lin out_proj attn_output",
        r"att(entio)?n[._](output\.dense|output|c_proj|proj|dense|o)([._]|$)",
    ),
    (
        "ffn in",
        r"intermediate ffn_(up|gate) (gate_)?up_proj gate_proj c_fc fc1 lin1 wi(_\d)? w1 w3 dense_h_to_4h",
        "",
    ),
    ("ffn out", "down_proj ffn_down fc2 lin2 wo w2 dense_4h_to_h", r"(mlp\.c_proj|output\.dense)([._]|$)"),
)


def _rule(words: str, pattern: str) -> re.Pattern[str]:
    whole = rf"(^|[._])({'|'.join(words.split())})([._]|$)" if words else ""
    return re.compile("|".join(filter(None, (whole, pattern))))


_RULES = tuple((role, _rule(words, pattern)) for role, words, pattern in _WORDS)


def role_of(name: str, shape: tuple[int, ...]) -> str:
    """Guesses what a tensor does.

    Args:
        name: name in the checkpoint, such as "encoder.layer.0.attention.self.query.weight".
        shape: its shape.

    Returns:
        one of ``PRUNABLE``, or "head", "pooler", "embedding", "norm", "bias", "statistic", "quantised",
        "mask", "scores" or "unknown".
    """
    if _SCORES.search(name):
        return "scores"
    if _MASK.search(name):
        return "mask"
    if _QUANTISED.search(name):
        return "quantised"
    lower = name.lower()
    found = next((role for role, rule in _RULES if rule.search(lower)), "")
    if found in PRUNABLE and len(shape) < 2:
        return "unknown"
    if found == "bias" and len(shape) > 1:  # GPT-2 keeps its triangle of ones under this name
        return "statistic" if len(shape) > 2 else "bias"
    if found == "norm" and len(shape) > 1:
        found = ""
    if found:
        return found
    if len(shape) in (3, 4, 5):
        return "conv"
    if len(shape) == 2:
        return "head" if re.fullmatch(r"(\w+\.)?(linear|fc|head|output)\.weight", lower) else "other"
    shortcut = re.search(r"(downsample|shortcut)\.1\.weight$", lower)
    return "norm" if len(shape) == 1 and shortcut else "unknown"


def block_name(name: str, blocks: Collection[str]) -> str:
    """Finds which of the repeated blocks a tensor lies in; "" for none."""
    return next((b for conv in (True, False) if (b := block_of(name, conv)) in blocks), "") or ""


def number(blocks: Iterable[str]) -> dict[str, int]:
    """Numbers the repeated blocks as a model's layers are numbered: from 0, in the order of their names.

    Files list tensors by type or alphabet, so 10 would come before 2: numbers in a name sort as numbers.
    """
    natural = {
        b: [(len(p), p) if p.isdigit() else (0, p) for p in re.split(r"(\d+)", b)] for b in set(blocks)
    }
    return {b: i for i, b in enumerate(sorted(natural, key=natural.__getitem__))}


def plain_name(name: str) -> str:
    """Gives the name of the weight that a reparametrised tensor stands for.

    ``x.weight_orig`` (``torch.nn.utils.prune``) and ``x.parametrizations.weight.original`` are ``x.weight``.
    """
    name = re.sub(r"\.parametrizations\.(\w+)\.original$", r".\1", name)
    return re.sub(r"^parametrizations\.(\w+)\.original$", r"\1", name).removesuffix("_orig")


def site_block(name: str, role: str) -> str | None:
    """Finds the numbered block of a site; None for what is no site: another role, or outside every block.

    The rule of ``sites.find_sites``, so that a checkpoint and the run that made it have the same
    denominators.
    """
    return block_of(name, role == "conv") if role in PRUNABLE else None
