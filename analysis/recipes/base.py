"""What a recipe is."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.spec import LineUp, Stage


@dataclass(frozen=True)
class Recipe:
    """A named line-up of parts.

    Attributes:
        name: the word in specs and on the command line; also the stem of the card's file.
        title: the word on pages.
        paper: where the method was published, or what it is when nobody published it.
        summary: one sentence for lists.
        lineup: one part per slot, with the defaults for a pre-trained encoder on real data.
        keep: fraction kept when nothing is asked.
        stages: what a run does one after the other; none for a single line-up from start to end.
    """

    name: str
    title: str
    paper: str
    summary: str
    lineup: LineUp
    keep: float = 0.1
    stages: tuple[Stage, ...] = ()
