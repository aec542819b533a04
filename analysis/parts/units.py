"""Units: what lives or dies together, and what one of them costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.errors import SpecError
from analysis.parts.base import Part, knob
from analysis.parts.grids import (
    ATTENTION,
    FFN,
    Group,
    Member,
    Shape,
    Window,
    coupled,
    expand,
    filters,
    reduce,
    single,
)

__all__ = [
    "Block",
    "Column",
    "Group",
    "Member",
    "Row",
    "Shape",
    "Structure",
    "Units",
    "Weight",
    "Window",
    "expand",
    "reduce",
]


@dataclass(frozen=True)
class Weight(Part):
    """Every single weight is a unit of its own (unstructured pruning)."""

    title: ClassVar[str] = "single weights"
    removable: ClassVar[bool] = False

    def groups(self, shapes: Sequence[Shape]) -> list[Group]:
        """Returns one group per site."""
        return [single("weights", i, s, (s.rows, s.cols)) for i, s in enumerate(shapes)]


def _cut(shape: Shape, rows: int, cols: int) -> tuple[int, int]:
    if shape.rows % rows or shape.cols % cols:
        raise SpecError(
            f"blocks of {rows} x {cols} do not divide {shape.name}, whose weight is {shape.rows} x "
            f"{shape.cols}; choose numbers that divide both sides."
        )
    return shape.rows // rows, shape.cols // cols


@dataclass(frozen=True)
class Block(Part):
    """Rectangles of a matrix: p rows times q columns; they must divide it."""

    rows: int = knob(32, "rows of a block", unit="rows", low=1, high=65536)
    cols: int = knob(32, "columns of a block", unit="columns", low=1, high=65536)

    title: ClassVar[str] = "rectangular blocks"
    removable: ClassVar[bool] = False

    def groups(self, shapes: Sequence[Shape]) -> list[Group]:
        """Returns one group per site.

        Raises:
            SpecError: the block does not divide a matrix.
        """
        return [single("blocks", i, s, _cut(s, self.rows, self.cols)) for i, s in enumerate(shapes)]


@dataclass(frozen=True)
class Row(Part):
    """Output rows of a matrix, output filters of a convolution, each with its bias."""

    title: ClassVar[str] = "rows or filters"
    removable: ClassVar[bool] = False

    def groups(self, shapes: Sequence[Shape]) -> list[Group]:
        """Returns one group per site."""
        return [single("rows", i, s, (s.rows, 1)) for i, s in enumerate(shapes)]


@dataclass(frozen=True)
class Column(Part):
    """Input columns of a matrix, input channels of a convolution."""

    title: ClassVar[str] = "columns or channels"
    removable: ClassVar[bool] = False

    def groups(self, shapes: Sequence[Shape]) -> list[Group]:
        """Returns one group per site."""
        return [single("columns", i, s, (1, s.cols // s.area)) for i, s in enumerate(shapes)]


@dataclass(frozen=True)
class Structure(Part):
    """Parts of a layer that can be removed from it: each unit spans several matrices.

    A head is its rows of query, key and value and its columns of the attention output; a query-key dimension
    is a row of query and the same row of key; a value dimension is a row of value and its column of the
    attention output; a neuron is a row into the feed-forward layer and its column out of it.

    Inside a residual block of convolutions a unit is a filter together with the input channel of the
    convolution that reads it, so that the constant which batch norm gives an empty filter goes nowhere. What
    a block adds to the residual stream, its shortcut and the stem are never cut. "filters" ranks units by the
    filter, "channels" by the input channel; the two words are the paper's, this reading of them is ours.
    """

    attention: str = knob(
        "heads",
        "what is pruned in attention",
        choices=("heads", "dims", "blocks", "none"),
    )
    ffn: str = knob(
        "neurons", "what is pruned in the feed-forward layer", choices=("neurons", "blocks", "none")
    )
    rows: int = knob(32, "rows of a block, where blocks are chosen", unit="rows", low=1, high=65536)
    cols: int = knob(32, "columns of a block, where blocks are chosen", unit="columns", low=1, high=65536)
    conv: str = knob(
        "filters",
        "what ranks a filter inside a residual block: itself, or the channel that reads it",
        choices=("filters", "channels", "none"),
    )

    title: ClassVar[str] = "heads, dimensions, neurons and filters"
    removable: ClassVar[bool] = True  # what is empty is cut out of the finished model

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention == self.ffn == self.conv == "none":
            raise SpecError(
                "Structure.attention, Structure.ffn and Structure.conv are all 'none', so nothing could be "
                "pruned; choose units for one of them."
            )

    def groups(self, shapes: Sequence[Shape]) -> list[Group]:
        """Returns the groups of all layers, attention before feed-forward before convolutions in each.

        Raises:
            SpecError: no layer has the parts asked for, heads do not divide them, or blocks do not.
        """
        found: list[Group] = []
        for layer in dict.fromkeys(s.layer for s in shapes):
            own = [(i, s) for i, s in enumerate(shapes) if s.layer == layer]
            found += self._attention([(i, s) for i, s in own if s.role in ATTENTION])
            found += self._ffn([(i, s) for i, s in own if s.role in FFN])
            found += self._conv(own)
        if not found:
            roles = ", ".join(sorted({s.role for s in shapes}))
            raise SpecError(
                f"units is Structure with attention {self.attention!r}, ffn {self.ffn!r} and conv "
                f"{self.conv!r}, but the model's prunable weights have the roles {roles} and make up no such "
                "structure; choose the units Weight, Block, Row or Column."
            )
        return found

    def _attention(self, own: list[tuple[int, Shape]]) -> list[Group]:
        if not own or self.attention == "none":
            return []
        if self.attention == "blocks":
            # The output reads what the others write, so its blocks lie the other way round.
            upright, lying = (self.rows, self.cols), (self.cols, self.rows)
            return [
                single("blocks", i, s, _cut(s, *(lying if s.role == ATTENTION[3] else upright)))
                for i, s in own
            ]
        by_role = {s.role: (i, s) for i, s in own}
        if set(by_role) != set(ATTENTION) or len({s.heads for _, s in own}) > 1 or not own[0][1].heads:
            raise SpecError(
                f"units is Structure with attention {self.attention!r}, which needs separate query, key and "
                f"value weights with equally many heads and an attention output; layer {own[0][1].layer} has "
                f"{', '.join(f'{s.name} ({s.heads or 0} heads)' for _, s in own)}: choose attention=blocks "
                "or none."
            )
        query, key, value, output = (by_role[r] for r in ATTENTION)
        heads = int(own[0][1].heads or 0)
        if self.attention == "heads":
            return [coupled("heads", heads, [(*query, True), (*key, True), (*value, True), (*output, False)])]
        return [
            coupled("query-key dims", query[1].rows, [(*query, True), (*key, True)], heads),
            coupled("value dims", value[1].rows, [(*value, True), (*output, False)], heads),
        ]

    def _ffn(self, own: list[tuple[int, Shape]]) -> list[Group]:
        if not own or self.ffn == "none":
            return []
        if self.ffn == "blocks":
            return [single("blocks", i, s, _cut(s, self.rows, self.cols)) for i, s in own]
        into, out = ([(i, s) for i, s in own if s.role == role] for role in FFN)
        if not into or not out:
            raise SpecError(
                "units is Structure with ffn 'neurons', which needs weights into and out of the "
                f"feed-forward layer; "
                f"layer {own[0][1].layer} has only {', '.join(s.name for _, s in own)}: choose ffn=blocks "
                "or none."
            )
        pairs = [(i, s, True) for i, s in into] + [(i, s, False) for i, s in out]
        return [coupled("neurons", into[0][1].rows, pairs)]

    def _conv(self, own: list[tuple[int, Shape]]) -> list[Group]:
        if self.conv == "none":
            return []
        by_name = {s.name: (i, s) for i, s in own}
        return [filters(self.conv, by_name[s.reads], (i, s)) for i, s in own if s.reads in by_name]


Units = Weight | Block | Row | Column | Structure
