"""What a recipe is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from analysis.errors import SpecError
from analysis.spec import LineUp, Stage

OWN = "own"  # the name of a recipe's own stages among its variants


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
        variants: other stages that may be chosen by name (``stages.variant``).
    """

    name: str
    title: str
    paper: str
    summary: str
    lineup: LineUp
    keep: float = 0.1
    stages: tuple[Stage, ...] = ()
    variants: Mapping[str, tuple[Stage, ...]] = field(default_factory=dict)

    def staged(self, variant: str) -> tuple[Stage, ...]:
        """The stages of a variant.

        Raises:
            SpecError: the recipe has no such variant.
        """
        known = {OWN: self.stages, **self.variants}
        if variant not in known:
            raise SpecError(
                f"stages.variant is {variant!r}; the recipe {self.name} has {', '.join(known)}: choose one "
                "of them."
            )
        return known[variant]
