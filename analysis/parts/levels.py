"""Units of two levels: first heads, rows and neurons, then tiles inside what they left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from analysis.errors import SpecError
from analysis.parts.base import Part, knob
from analysis.parts.grids import ATTENTION, FFN, Group, Member, Shape, Window, part_of, single
from analysis.parts.units import Structure

READERS = (ATTENTION[3], FFN[1])  # their columns follow what writes them, their rows are units of their own


@dataclass(frozen=True)
class MultiLevel(Part):
    """Heads and rows of a layer, or square tiles over the rows and columns that an earlier stage left.

    Level "heads and rows": a head is its rows of query, key and value, which share its score, and with it go
    its columns of the attention output; a neuron is its row into the feed-forward layer, and with it goes its
    column out of it; a row of the attention output and a row of the second feed-forward matrix are units of
    their own. Query, key and value lose no single rows. Such a matrix is cut along its rows by one group and
    along its columns by another.

    Level "tiles": every matrix by itself, gathered to its living rows and columns. So that tiles divide them,
    the first level rounds the rows and neurons it keeps up to a multiple of the side; tiles at the edge of a
    matrix that they do not divide all the same are smaller.
    Source: Yao, Ma, Shen, Keutzer, Mahoney 2021, arXiv:2105.14636v1.
    """

    level: str = knob(
        "heads and rows",
        "what is a unit: structures of a layer, or tiles",
        choices=("heads and rows", "tiles"),
    )
    tile: int = knob(32, "side of a tile", unit="rows", low=1, high=65536)
    round_up: bool = knob(True, "keep rows and neurons in multiples of the tile's side")

    title: ClassVar[str] = "heads, rows and neurons, then tiles"
    removable: ClassVar[bool] = True  # what is empty is cut out of the finished model

    def groups(self, shapes: Sequence[Shape]) -> list[Group]:
        """Returns the groups: four per layer of a transformer, or one per matrix.

        Raises:
            SpecError: no layer has attention or feed-forward matrices, or their heads do not divide.
        """
        if self.level == "tiles":
            return [g for i, s in enumerate(shapes) if (g := _tiles(i, s, self.tile)) is not None]
        try:
            whole = Structure(attention="heads", ffn="neurons", conv="none").groups(shapes)
        except SpecError as error:
            names = ", ".join(f"{s.name} ({s.role})" for s in shapes[:6])
            raise SpecError(
                "units is MultiLevel at the level 'heads and rows', which needs separate query, key and "
                "value weights with equally many heads, an attention output, and weights into and out of a "
                f"feed-forward layer; the model's first prunable weights are {names}: choose the units "
                "Weight or Block, or another model."
            ) from error
        found = []
        for group in whole:
            kept = self._multiple(group.units) if group.kind == "neurons" else 1
            followed = tuple(replace(m, ranks=shapes[m.site].role not in READERS) for m in group.members)
            found.append(replace(group, members=followed, multiple=kept))
            for i in (m.site for m in followed if not m.ranks):
                rows = single("rows", i, shapes[i], (shapes[i].rows, 1))
                found.append(replace(rows, multiple=self._multiple(rows.units)))
        return found

    def _multiple(self, units: int) -> int:
        return self.tile if self.round_up and self.tile <= units else 1


def _tiles(site: int, shape: Shape, side: int) -> Group | None:
    """The tiles of one matrix; None where nothing of it is left."""
    rows, cols = shape.left or (range(shape.rows), range(shape.cols))
    if not rows or not cols:
        return None
    divides = shape.left is None and shape.rows % side == shape.cols % side == 0
    grid = (shape.rows // side, shape.cols // side) if divides else Window(rows, cols, side)
    weights = side * side
    member = Member(site, grid)
    return Group("tiles", shape.layer, grid[0] * grid[1], (member,), weights, weights, part_of(shape.role))
