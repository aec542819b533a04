"""What the tensors of a checkpoint are to each other: weights, the masks and scores stored beside them.

=============================================  ==========================================================
stored                                         read as
=============================================  ==========================================================
``x.weight_orig``, ``x.weight_mask``           the weight ``x.weight`` with its mask applied
``x.parametrizations.weight.original``,        the same; ``.0.mask`` is applied, ``.0.scores`` are scores
``x.parametrizations.weight.0.mask``
``x.weight``, ``x.mask_scores``                a weight and its scores, no mask: the cut is not stored
``x.weight``, ``x…mask_module…mask_scores``    the same, scores of blocks or of rows
=============================================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.engine.inspect.config import heads_of
from analysis.engine.inspect.header import Entry, clean
from analysis.engine.inspect.kinds import FLOATS, KINDS
from analysis.engine.inspect.names import PRUNABLE, block_name, number, plain_name, role_of, site_block
from analysis.engine.inspect.orientation import turned

NO_PARAMETER = ("statistic", "quantised", "mask", "scores")  # roles that no denominator of weights counts
_ROWS, _COLUMNS = ("query", "key", "value"), ("attention output",)


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint and what it is.

    Attributes:
        entry: where its bytes are.
        name: as it may be shown; different for every tensor of a checkpoint.
        role: as ``role_of`` says.
        layer: number of its repeated block, −1 outside.
        block: name of that block.
        prunable: whether it is a site.
        encoder: whether it counts to the encoder: everything in the blocks that hold sites.
        heads: attention heads it divides into, 0 where it does not or nobody knows.
        head_axis: 0 when the heads are stretches of rows, 1 for columns.
        weight: for masks and scores the name of the weight they belong to, for a weight that is stored under
            another name its own.
        mask: the mask applied to it.
        transposed: whether it is stored [inputs, outputs], see ``orientation``.
    """

    entry: Entry
    name: str
    role: str
    layer: int
    block: str
    prunable: bool
    encoder: bool
    heads: int = 0
    head_axis: int = 0
    weight: str = ""
    mask: Entry | None = None
    transposed: bool = False

    @property
    def analysed(self) -> bool:
        """Whether its values are read."""
        return self.entry.dtype in KINDS and self.role != "quantised"

    def heads_empty(self, row_used: np.ndarray, col_used: np.ndarray) -> int | None:
        """Counts the heads in which nothing is left; None where it has no heads.

        Args:
            row_used: bool [rows], whether a row holds anything but zeros.
            col_used: bool [columns].
        """
        used = col_used if self.head_axis else row_used
        if not self.heads or not used.size or used.size % self.heads:
            return None
        return int(np.count_nonzero(~used.reshape(self.heads, -1).any(axis=1)))


def tensors(entries: Sequence[Entry], config: Mapping[str, Any]) -> list[Tensor]:
    """Says of every tensor what it is.

    Prunable is a site; the encoder is everything in the blocks that hold one, as ``sites.count_parameters``
    counts it. Where there are no numbered blocks at all, every linear and convolution weight counts as a
    site, and there is no encoder.

    Args:
        entries: as ``open_checkpoint`` lists them.
        config: ``config.json`` of the model, for the number of heads; may be empty.

    Returns:
        one item per entry, in the same order.
    """
    plain = [plain_name(e.name) for e in entries]
    roles = [_role(p, e) for p, e in zip(plain, entries, strict=True)]
    homes = [site_block(p, r) for p, r in zip(plain, roles, strict=True)]
    if not any(homes):  # a plain net without numbered blocks: every matrix of it may be pruned
        homes = ["" if r in PRUNABLE else None for r in roles]
    blocks = {home for home in homes if home}
    layers = number(blocks)
    weights = {p: i for i, (p, r) in enumerate(zip(plain, roles, strict=True)) if r not in NO_PARAMETER}
    owners = {i: _owner(entries[i].name, r, weights) for i, r in enumerate(roles) if r in ("mask", "scores")}
    masks = {
        owner: entries[i]
        for i, owner in owners.items()
        if roles[i] == "mask" and owner and _fits(entries[i], entries[weights[owner]])
    }
    other_way = turned({p: entries[i].shape for p, i in weights.items()})
    names = shown(entry.name for entry in entries)
    out = []
    for i, (entry, name) in enumerate(zip(entries, names, strict=True)):
        block = block_name(plain[i], blocks)
        counts = roles[i] not in NO_PARAMETER
        transposed = counts and plain[i] in other_way
        heads, axis = _heads(roles[i], entry, config, transposed) if homes[i] is not None else (0, 0)
        out.append(
            Tensor(
                entry,
                name,
                roles[i],
                layers.get(block, -1),
                clean(block),
                homes[i] is not None,
                counts and bool(block),
                heads,
                axis,
                clean(owners.get(i, "") if i in owners else plain[i] if plain[i] != entry.name else ""),
                masks.get(plain[i]) if counts and weights.get(plain[i]) == i else None,
                transposed,
            )
        )
    return out


def _role(name: str, entry: Entry) -> str:
    """The role; a matrix of whole numbers is codes that a scale elsewhere turns into weights."""
    role = role_of(name, entry.shape)
    whole = entry.dtype in KINDS and entry.dtype not in FLOATS
    if not whole or role not in (*PRUNABLE, "head", "embedding"):
        return role
    return "quantised" if entry.dtype != "BOOL" and role != "conv" else "statistic"


def _owner(name: str, role: str, weights: Mapping[str, int]) -> str:
    """The weight a mask or score belongs to; "" for none."""
    if role == "mask" and name.endswith("_mask") and name[: -len("_mask")] in weights:
        return name[: -len("_mask")]
    parts = name.split(".")
    if "parametrizations" in parts:
        at = parts.index("parametrizations")
        found = ".".join([*parts[:at], parts[at + 1]])
        return found if found in weights else ""
    for end in range(len(parts) - 1, 0, -1):
        found = ".".join([*parts[:end], "weight"])
        if found in weights:
            return found
    return ""


def _fits(mask: Entry, weight: Entry) -> bool:
    known = mask.dtype in KINDS and weight.dtype in KINDS
    packed = known and (KINDS[mask.dtype].packed != 1 or KINDS[weight.dtype].packed != 1)
    return mask.shape == weight.shape and known and not packed and mask.ordered and weight.ordered


def _heads(role: str, entry: Entry, config: Mapping[str, Any], transposed: bool) -> tuple[int, int]:
    """Heads of a matrix and along which dimension they lie."""
    found = heads_of(config)
    if found is None or len(entry.shape) != 2 or role not in (*_ROWS, *_COLUMNS):
        return 0, 0
    heads = found[1] if role in ("key", "value") else found[0]
    axis = int((role in _COLUMNS) != transposed)
    return (heads, axis) if heads and entry.shape[axis] % heads == 0 else (0, 0)


def shown(names: Iterable[str]) -> list[str]:
    """Makes names fit to be shown, and different where capping or cleaning made them equal."""
    seen: dict[str, int] = {}
    out = []
    for name in map(clean, names):
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out
