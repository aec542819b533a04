"""Which tensor of one checkpoint is which of another, when the same model was saved under other names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.engine.inspect.header import Entry
from analysis.engine.inspect.layouts import Tensor
from analysis.engine.inspect.names import plain_name

# What frameworks put in front of a whole model; none of it tells one part of a model from another.
WRAPPERS = frozenset(
    "module model _orig_mod base_model bert roberta distilbert electra deberta albert transformer".split()
)
LEAVES = {"gamma": "weight", "beta": "bias"}  # layer norms of checkpoints converted from TensorFlow
DROPPED = 3  # leading parts that one side may have and the other not


@dataclass(frozen=True)
class Side:
    """One side of a pair: a tensor under the name that the model has for it.

    Attributes:
        name: its name once masks and parametrisations are put back, such as "fc.weight" for "fc.weight_orig".
        what: what it is, where its values are, and the mask that is applied to them.
    """

    name: str
    what: Tensor

    @property
    def entry(self) -> Entry:
        """Where its values are."""
        return self.what.entry

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.entry.shape

    @property
    def size(self) -> int:
        """Bytes that have to be read for it."""
        return self.entry.size + (self.what.mask.size if self.what.mask else 0)


@dataclass(frozen=True)
class Matched:
    """Two lists of tensors set side by side; every tensor is in exactly one of the four.

    Attributes:
        pairs: partners of equal shape, in the order of the first list.
        reshaped: partners by their whole name whose shapes differ.
        missing: in the first list only.
        extra: in the second list only.
    """

    pairs: tuple[tuple[Side, Side], ...]
    reshaped: tuple[tuple[Side, Side], ...]
    missing: tuple[Side, ...]
    extra: tuple[Side, ...]


def put_back(found: Sequence[Tensor]) -> list[Side]:
    """Gives tensors the names that the model has for them; masks that are applied are no tensors of it.

    Args:
        found: the tensors of a checkpoint, see ``layouts.tensors``.

    Returns:
        the rest in the same order, names unique.
    """
    applied = {id(tensor.mask) for tensor in found if tensor.mask is not None}
    rest = [tensor for tensor in found if id(tensor.entry) not in applied]
    stored = {tensor.entry.name for tensor in rest}
    out = []
    for tensor in rest:
        plain = plain_name(tensor.entry.name)
        out.append(Side(tensor.entry.name if plain in stored else plain, tensor))
    return out


def match(first: Sequence[Side], second: Sequence[Side]) -> Matched:
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
