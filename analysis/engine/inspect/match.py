"""Which tensor of one checkpoint is which of another, when the same model was saved under other names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.engine.inspect.header import Entry

# What frameworks put in front of a whole model; none of it tells one part of a model from another.
WRAPPERS = frozenset(
    "module model _orig_mod base_model bert roberta distilbert electra deberta albert transformer".split()
)
LEAVES = {"gamma": "weight", "beta": "bias"}  # layer norms of checkpoints converted from TensorFlow
DROPPED = 3  # leading parts that one side may have and the other not
_ORIGINAL = re.compile(r"(.*)parametrizations\.(\w+)\.original")


@dataclass(frozen=True)
class Tensor:
    """A tensor as the model uses it: its stored values, times the mask stored beside them.

    Attributes:
        name: its name once masks and parametrisations are put back, such as "fc.weight" for "fc.weight_orig".
        entry: where its values are.
        mask: where its mask is, None for none.
    """

    name: str
    entry: Entry
    mask: Entry | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.entry.shape

    @property
    def size(self) -> int:
        """Bytes that have to be read for it."""
        return self.entry.size + (self.mask.size if self.mask else 0)


@dataclass(frozen=True)
class Matched:
    """Two lists of tensors set side by side; every tensor is in exactly one of the four.

    Attributes:
        pairs: partners of equal shape, in the order of the first list.
        reshaped: partners by their whole name whose shapes differ.
        missing: in the first list only.
        extra: in the second list only.
    """

    pairs: tuple[tuple[Tensor, Tensor], ...]
    reshaped: tuple[tuple[Tensor, Tensor], ...]
    missing: tuple[Tensor, ...]
    extra: tuple[Tensor, ...]


def put_back(entries: Iterable[Entry]) -> list[Tensor]:
    """Joins what pruning tools store apart: ``weight_orig`` with ``weight_mask``, parametrised originals.

    Args:
        entries: the tensors of a checkpoint.

    Returns:
        the tensors of the model, in the same order; the masks that were joined are no tensors of it.
    """
    by_name = {entry.name: entry for entry in entries}
    out = []
    for name, entry in by_name.items():
        plain = _plain(name)
        if plain is not None and plain not in by_name:
            mask = by_name.get(f"{plain}_mask") if name == f"{plain}_orig" else None
            out.append(Tensor(plain, entry, mask if mask and mask.shape == entry.shape else None))
        elif not _is_mask(name, entry, by_name):
            out.append(Tensor(name, entry))
    return out


def _plain(name: str) -> str | None:
    if name.endswith("_orig"):
        return name.removesuffix("_orig")
    found = _ORIGINAL.fullmatch(name)
    return found[1] + found[2] if found else None


def _is_mask(name: str, entry: Entry, by_name: dict[str, Entry]) -> bool:
    plain = name.removesuffix("_mask")
    original = by_name.get(f"{plain}_orig")
    joined = plain != name and original is not None and plain not in by_name
    return joined and original is not None and original.shape == entry.shape


def match(first: Sequence[Tensor], second: Sequence[Tensor]) -> Matched:
    """Sets two lists of tensors side by side: by whole names first, then by what is left of them.

    What is left of a name: known wrappers in front go on both sides, ``gamma`` and ``beta`` are ``weight``
    and ``bias``; then up to three more leading parts go on one side. Such a partner counts only when it is
    the only one on either side and has the same shape.

    Args:
        first: tensors of the first checkpoint, names unique.
        second: tensors of the second.

    Returns:
        who belongs to whom, and who is alone.
    """
    left, right = {t.name: t for t in first}, {t.name: t for t in second}
    partner = {name: name for name in left if name in right}
    for drop_left, drop_right in ((0, 0), *(d for n in range(1, DROPPED + 1) for d in ((n, 0), (0, n)))):
        taken = set(partner.values())
        mine = _keys((n for n in left if n not in partner), drop_left)
        theirs = _keys((n for n in right if n not in taken), drop_right)
        for key, names in mine.items():
            others = theirs.get(key, [])
            if len(names) == len(others) == 1 and left[names[0]].shape == right[others[0]].shape:
                partner[names[0]] = others[0]
    both = [(left[name], right[partner[name]]) for name in left if name in partner]
    taken = set(partner.values())
    return Matched(
        tuple(p for p in both if p[0].shape == p[1].shape),
        tuple(p for p in both if p[0].shape != p[1].shape),
        tuple(t for name, t in left.items() if name not in partner),
        tuple(t for name, t in right.items() if name not in taken),
    )


def _keys(names: Iterable[str], drop: int) -> dict[str, list[str]]:
    out: dict[str, list[str]] = defaultdict(list)
    for name in names:
        parts = name.split(".")
        parts[-1] = LEAVES.get(parts[-1], parts[-1])
        while len(parts) > 1 and parts[0] in WRAPPERS:
            parts = parts[1:]
        if len(parts) > drop:
            out[".".join(parts[drop:])].append(name)
    return out
