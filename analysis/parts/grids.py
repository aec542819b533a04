"""Grids: how a unit reaches into the weights of one or several sites.

A group is a set of units of one kind in one layer, such as the heads of layer 3. Its units reach into the
weights of one or several sites: a head is a piece of the rows of query, key and value, and a piece of the
columns of the attention output. All of that is said by one pair of numbers per site, the grid: into how many
pieces its rows and its columns are cut. ``expand`` and ``reduce`` follow from the grid and are each other's
adjoint. A ``Window`` is a grid over some rows and columns of a site alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.lazy import torch

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
        norm: whether a batch norm scales and shifts its outputs one by one.
        reads: name of the convolution in the same block whose filters, and nothing else, are its input
            channels; "" for none.
        left: rows and columns in which an earlier stage has left anything; None for all.
    """

    name: str
    role: str
    layer: int
    rows: int
    cols: int
    heads: int | None = None
    area: int = 1
    bias: bool = False
    norm: bool = False
    reads: str = ""
    left: tuple[tuple[int, ...], tuple[int, ...]] | None = None


class Window(tuple[int, int]):
    """A grid of tiles over some rows and columns of a site, as if the others were not there.

    Where the side of a tile does not divide them, the last tiles are as small as what is left over. Weights
    outside belong to no unit.

    Args:
        rows: numbers of the rows, in the order in which they are tiled.
        cols: numbers of the columns.
        side: rows and columns of a tile.
    """

    rows: torch.Tensor
    cols: torch.Tensor
    side: int

    def __new__(cls, rows: Sequence[int], cols: Sequence[int], side: int) -> Window:
        """Returns the number of tiles downwards and across, as a grid is written."""
        made = super().__new__(cls, (-(-len(rows) // side), -(-len(cols) // side)))
        made.rows, made.cols, made.side = torch.tensor(rows), torch.tensor(cols), side
        return made

    def spread(self, units: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
        """Gives every weight inside the value of its tile and every other one 0, shape [rows, cols]."""
        table = units.view(*self).repeat_interleave(self.side, 0).repeat_interleave(self.side, 1)
        whole = units.new_zeros(rows, cols)
        down, across = self.rows.to(units.device), self.cols.to(units.device)
        whole[down[:, None], across] = table[: len(down), : len(across)]
        return whole

    def collect(self, values: torch.Tensor) -> torch.Tensor:
        """Sums the values of each tile, shape [tiles]; the adjoint of ``spread``."""
        inside = values[self.rows.to(values.device)][:, self.cols.to(values.device)]
        (down, across), side = self, self.side
        short = (0, across * side - inside.shape[1], 0, down * side - inside.shape[0])
        whole = torch.nn.functional.pad(inside, short) if any(short) else inside
        return whole.reshape(down, side, across, side).sum((1, 3)).reshape(-1)


@dataclass(frozen=True)
class Member:
    """How the units of a group reach into one site: ``grid`` pieces of rows times pieces of columns.

    Where ``ranks`` is False the site loses its pieces with the units but has no say in their scores. A site
    ranks the units of one group at most. Where ``biased`` is False its biases stay whatever its units do.
    """

    site: int
    grid: tuple[int, int]
    ranks: bool = True
    biased: bool = True


@dataclass(frozen=True)
class Group:
    """Units of one kind that are ranked together.

    Attributes:
        kind: "weights", "blocks", "rows", "columns", "heads", "neurons", "query-key dims", "value dims",
            "filters", "channels" or "tiles".
        layer: number of the block they live in.
        units: how many there are.
        members: the sites they reach into.
        weights: prunable weights of one unit; what it shares with a unit of another group counts in both.
        cost: parameters that disappear with one unit, biases and batch norm included.
        part: "attention", "ffn" or "other".
        heads: attention heads that the units divide into evenly, 0 where they belong to none.
        multiple: a selection that counts for itself keeps a multiple of so many.
    """

    kind: str
    layer: int
    units: int
    members: tuple[Member, ...]
    weights: int
    cost: int
    part: str = "other"
    heads: int = 0
    multiple: int = 1


def expand(units: torch.Tensor, grid: tuple[int, int], rows: int, cols: int) -> torch.Tensor:
    """Gives every weight the value of its unit.

    Args:
        units: one value per unit, shape [pieces of rows * pieces of columns].
        grid: pieces of rows and of columns.
        rows: rows of the weight.
        cols: columns of the weight.

    Returns:
        values of shape [rows, cols]; a view where every weight is a unit of its own; 0 outside a window.
    """
    if isinstance(grid, Window):
        return grid.spread(units, rows, cols)
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
    if isinstance(grid, Window):
        return grid.collect(values)
    down, across = grid
    rows, cols = values.shape
    if (down, across) == (rows, cols):
        return values.reshape(-1)
    return values.reshape(down, rows // down, across, cols // across).sum((1, 3)).reshape(-1)


def part_of(role: str) -> str:
    """The part of the model that a role belongs to: "attention", "ffn" or "other"."""
    return "attention" if role in ATTENTION else "ffn" if role in FFN else "other"


def single(kind: str, site: int, shape: Shape, grid: tuple[int, int]) -> Group:
    """One group inside one site, cut into ``grid`` pieces."""
    units = grid[0] * grid[1]
    weights = shape.rows * shape.cols // units
    # A bias goes with whole rows only.
    biases = shape.rows // units if shape.bias and grid[1] == 1 else 0
    return Group(
        kind, shape.layer, units, (Member(site, grid),), weights, weights + biases, part_of(shape.role)
    )


def coupled(kind: str, units: int, members: Sequence[tuple[int, Shape, bool]], heads: int = 0) -> Group:
    """One group over several sites; the flag says whether a unit is a piece of rows (else of columns)."""
    weights = sum(s.rows * s.cols for _, s, _ in members) // units
    biases = sum(s.rows // units for _, s, by_rows in members if by_rows and s.bias)
    # What a layer adds of its own to the residual stream stays when all that it reads has gone.
    cut = tuple(Member(i, (units, 1) if by_rows else (1, units), biased=by_rows) for i, _, by_rows in members)
    first = members[0][1]
    return Group(kind, first.layer, units, cut, weights, weights + biases, part_of(first.role), heads)


def filters(kind: str, writer: tuple[int, Shape], reader: tuple[int, Shape]) -> Group:
    """The filters of one convolution, each with the input channel of the convolution that reads it."""
    (i, w), (j, r) = writer, reader
    members = (
        Member(i, (w.rows, 1), ranks=kind == "filters"),
        Member(j, (1, w.rows), ranks=kind == "channels"),
    )
    weights = w.cols + r.rows * r.area
    return Group(kind, w.layer, w.rows, members, weights, weights + w.bias + 2 * w.norm)
