"""Units: what lives or dies together, and what one of them costs.

A group is a set of units of one kind in one layer, such as the heads of layer 3. Its units reach into the
weights of one or several sites: a head is a piece of the rows of query, key and value, and a piece of the
columns of the attention output. All of that is said by one pair of numbers per site, the grid: into how many
pieces its rows and its columns are cut. ``expand`` and ``reduce`` follow from the grid and are each other's
adjoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.errors import SpecError
from analysis.lazy import torch
from analysis.parts.base import Part, knob

ATTENTION = ("query", "key", "value", "attention output")
FFN = ("ffn in", "ffn out")


@dataclass(frozen=True)
class Shape:
    """What units need to know of a site.

    Attributes:
        name: path of its module.
        role: "query", "key", "value", "attention output", "ffn in", "ffn out", "conv" or "other".
        layer: number of its block, from 0.
        rows: outputs of the layer.
        cols: inputs of the layer, times the kernel's area for a convolution.
        heads: attention heads its rows (columns for the attention output) divide into, None elsewhere.
        area: positions of a convolution's kernel, 1 for a linear layer.
        bias: whether the layer has one.
    """

    name: str
    role: str
    layer: int
    rows: int
    cols: int
    heads: int | None = None
    area: int = 1
    bias: bool = False


@dataclass(frozen=True)
class Member:
    """How the units of a group reach into one site: ``grid`` pieces of rows times pieces of columns."""

    site: int
    grid: tuple[int, int]


@dataclass(frozen=True)
class Group:
    """Units of one kind that are ranked together.

    Attributes:
        kind: "weights", "blocks", "rows", "columns", "heads", "neurons", "query-key dims" or "value dims".
        layer: number of the block they live in.
        units: how many there are.
        members: the sites they reach into.
        weights: prunable weights of one unit.
        cost: parameters that disappear with one unit, biases included.
        part: "attention", "ffn" or "other".
    """

    kind: str
    layer: int
    units: int
    members: tuple[Member, ...]
    weights: int
    cost: int
    part: str = "other"


def expand(units: torch.Tensor, grid: tuple[int, int], rows: int, cols: int) -> torch.Tensor:
    """Gives every weight the value of its unit.

    Args:
        units: one value per unit, shape [pieces of rows * pieces of columns].
        grid: pieces of rows and of columns.
        rows: rows of the weight.
        cols: columns of the weight.

    Returns:
        values of shape [rows, cols]; a view where every weight is a unit of its own.
    """
    down, across = grid
    table = units.view(down, across)
    if down != rows:
        table = table.repeat_interleave(rows // down, 0)
    return table if across == cols else table.repeat_interleave(cols // across, 1)


def reduce(values: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Sums the values of each unit's weights; the adjoint of ``expand``.

    Args:
        values: one value per weight, shape [rows, cols].
        grid: pieces of rows and of columns.

    Returns:
        sums, shape [units]; a view where every weight is a unit of its own.
    """
    down, across = grid
    rows, cols = values.shape
    if (down, across) == (rows, cols):
        return values.reshape(-1)
    return values.reshape(down, rows // down, across, cols // across).sum((1, 3)).reshape(-1)


def _part(role: str) -> str:
    return "attention" if role in ATTENTION else "ffn" if role in FFN else "other"


def _single(kind: str, site: int, shape: Shape, grid: tuple[int, int]) -> Group:
    units = grid[0] * grid[1]
    weights = shape.rows * shape.cols // units
    # A bias goes with whole rows only.
    biases = shape.rows // units if shape.bias and grid[1] == 1 else 0
    return Group(
        kind, shape.layer, units, (Member(site, grid),), weights, weights + biases, _part(shape.role)
    )


def _coupled(kind: str, units: int, members: Sequence[tuple[int, Shape, bool]]) -> Group:
    """One group over several sites; the flag says whether a unit is a piece of rows (else of columns)."""
    weights = sum(s.rows * s.cols for _, s, _ in members) // units
    biases = sum(s.rows // units for _, s, by_rows in members if by_rows and s.bias)
    cut = tuple(Member(i, (units, 1) if by_rows else (1, units)) for i, _, by_rows in members)
    first = members[0][1]
    return Group(kind, first.layer, units, cut, weights, weights + biases, _part(first.role))


@dataclass(frozen=True)
class Weight(Part):
    """Every single weight is a unit of its own (unstructured pruning)."""

    title: ClassVar[str] = "single weights"
    removable: ClassVar[bool] = False

    def groups(self, shapes: Sequence[Shape]) -> list[Group]:
        """Returns one group per site."""
        return [_single("weights", i, s, (s.rows, s.cols)) for i, s in enumerate(shapes)]


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
        return [_single("blocks", i, s, _cut(s, self.rows, self.cols)) for i, s in enumerate(shapes)]


@dataclass(frozen=True)
class Row(Part):
    """Output rows of a matrix, output filters of a convolution, each with its bias."""

    title: ClassVar[str] = "rows or filters"
    removable: ClassVar[bool] = False

    def groups(self, shapes: Sequence[Shape]) -> list[Group]:
        """Returns one group per site."""
        return [_single("rows", i, s, (s.rows, 1)) for i, s in enumerate(shapes)]


@dataclass(frozen=True)
class Column(Part):
    """Input columns of a matrix, input channels of a convolution."""

    title: ClassVar[str] = "columns or channels"
    removable: ClassVar[bool] = False

    def groups(self, shapes: Sequence[Shape]) -> list[Group]:
        """Returns one group per site."""
        return [_single("columns", i, s, (1, s.cols // s.area)) for i, s in enumerate(shapes)]


@dataclass(frozen=True)
class Structure(Part):
    """Parts of a transformer layer that can be removed from it: each unit spans several matrices.

    A head is its rows of query, key and value and its columns of the attention output; a query-key dimension
    is a row of query and the same row of key; a value dimension is a row of value and its column of the
    attention output; a neuron is a row into the feed-forward layer and its column out of it.
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

    title: ClassVar[str] = "heads, dimensions and neurons"
    removable: ClassVar[bool] = True  # what is empty is cut out of the finished model

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention == self.ffn == "none":
            raise SpecError(
                "Structure.attention and Structure.ffn are both 'none', so nothing could be pruned; choose "
                "units for one of them."
            )

    def groups(self, shapes: Sequence[Shape]) -> list[Group]:
        """Returns the groups of all layers, attention before feed-forward in each.

        Raises:
            SpecError: no layer has the parts asked for, heads do not divide them, or blocks do not.
        """
        found: list[Group] = []
        for layer in dict.fromkeys(s.layer for s in shapes):
            own = [(i, s) for i, s in enumerate(shapes) if s.layer == layer]
            found += self._attention([(i, s) for i, s in own if s.role in ATTENTION])
            found += self._ffn([(i, s) for i, s in own if s.role in FFN])
        if not found:
            roles = ", ".join(sorted({s.role for s in shapes}))
            raise SpecError(
                f"units is Structure with attention {self.attention!r} and ffn {self.ffn!r}, but the model's "
                f"prunable weights have the roles {roles}; choose the units Weight, Block, Row or Column."
            )
        return found

    def _attention(self, own: list[tuple[int, Shape]]) -> list[Group]:
        if not own or self.attention == "none":
            return []
        if self.attention == "blocks":
            # The output reads what the others write, so its blocks lie the other way round.
            upright, lying = (self.rows, self.cols), (self.cols, self.rows)
            return [
                _single("blocks", i, s, _cut(s, *(lying if s.role == ATTENTION[3] else upright)))
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
        if self.attention == "heads":
            heads = int(own[0][1].heads or 0)
            return [
                _coupled("heads", heads, [(*query, True), (*key, True), (*value, True), (*output, False)])
            ]
        return [
            _coupled("query-key dims", query[1].rows, [(*query, True), (*key, True)]),
            _coupled("value dims", value[1].rows, [(*value, True), (*output, False)]),
        ]

    def _ffn(self, own: list[tuple[int, Shape]]) -> list[Group]:
        if not own or self.ffn == "none":
            return []
        if self.ffn == "blocks":
            return [_single("blocks", i, s, _cut(s, self.rows, self.cols)) for i, s in own]
        into, out = ([(i, s) for i, s in own if s.role == role] for role in FFN)
        if not into or not out:
            raise SpecError(
                "units is Structure with ffn 'neurons', which needs weights into and out of the "
                f"feed-forward layer; "
                f"layer {own[0][1].layer} has only {', '.join(s.name for _, s in own)}: choose ffn=blocks "
                "or none."
            )
        pairs = [(i, s, True) for i, s in into] + [(i, s, False) for i, s in out]
        return [_coupled("neurons", into[0][1].rows, pairs)]


Units = Weight | Block | Row | Column | Structure
