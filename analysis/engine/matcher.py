"""What losses inside the network need beside the two models: maps between their widths, eager attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from analysis.errors import SpecError
from analysis.parts.grids import ATTENTION
from analysis.parts.matching import HiddenDistillation
from analysis.spec import LineUp

if TYPE_CHECKING:
    from analysis.engine.pruner import Pruner


def projections(
    part: HiddenDistillation | None, student: nn.Module, teacher: nn.Module | None
) -> nn.ModuleDict:
    """One linear map per matched hidden state, from the student's width to the teacher's.

    Each begins as the identity.

    Args:
        part: which states are matched.
        student: a transformer.
        teacher: another.

    Returns:
        state number to map; empty where the loss asks for none.

    Raises:
        SpecError: a model does not say how wide and deep it is.
    """
    maps = nn.ModuleDict()
    if part is None or not part.projected or teacher is None:
        return maps
    (inner, depth), (outer, _) = _size(student), _size(teacher)
    for k in part.matched(depth + 1):
        linear = nn.Linear(inner, outer)
        nn.init.eye_(linear.weight)
        nn.init.zeros_(linear.bias)
        maps[str(k)] = linear
    return maps


def _size(model: Any) -> tuple[int, int]:
    width, depth = (getattr(model.config, n, None) for n in ("hidden_size", "num_hidden_layers"))
    if not isinstance(width, int) or not isinstance(depth, int):
        raise SpecError(
            f"hidden.projected is true, but the config of a {type(model).__name__} names no single width for "
            "all its layers; set it to false or choose a transformer."
        )
    return width, depth


def same_shapes(why: str, model: nn.Module, given: Mapping[str, torch.Tensor], name: str = "") -> None:
    """Refuses a teacher of another architecture where its weights or layers take the student's places.

    Args:
        why: what is done with them, the start of the sentence.
        model: the student.
        given: the teacher's weights by name.
        name: what the teacher is called, "" for one made in the run.

    Raises:
        SpecError: the first weight that differs, in both shapes.
    """
    mine, theirs = ({n: tuple(v.shape) for n, v in s.items()} for s in (model.state_dict(), given))
    for weight in mine | theirs:
        if mine.get(weight) != theirs.get(weight):
            raise SpecError(
                f"{why}, but {weight} is {mine.get(weight)} in the model and {theirs.get(weight)} in "
                f"{f'the teacher {name}'.strip()}; choose a teacher of the same architecture, such as a "
                "fine-tuned copy of the model."
            )


def check_attention(parts: LineUp, model: Any) -> None:
    """Refuses a model that has no attention maps where a loss looks at them."""
    able = getattr(model.config, "num_attention_heads", None) and hasattr(model, "set_attn_implementation")
    if parts.attention is not None and not able:
        raise SpecError(
            f"attention distillation needs attention maps, which a {type(model).__name__} does not have; "
            "empty the slot with attention.type=none or choose a transformer."
        )


def show_attention(parts: LineUp, *models: nn.Module | None) -> None:
    """Makes models compute attention in the way that shows its maps, where a loss looks at them.

    Raises:
        SpecError: a model has no such way.
    """
    if parts.attention is None:
        return
    shown: list[Any] = [model for model in models if model is not None]
    for model in shown:
        check_attention(parts, model)
        model.set_attn_implementation("eager")


def wanted(parts: LineUp) -> dict[str, bool]:
    """The arguments by which a forward pass returns what the losses look at."""
    asked = {"output_hidden_states": parts.hidden, "output_attentions": parts.attention}
    return {name: True for name, part in asked.items() if part is not None}


def heads_left(pruner: Pruner) -> list[torch.Tensor]:
    """Which heads are left in every layer: those of whose query, key and value something is.

    A head without query or key looks everywhere alike, so that its map says nothing.

    Returns:
        bool of shape [heads], one per layer in order; empty where heads are not told apart.
    """
    found: dict[int, torch.Tensor] = {}
    for site, gate in zip(pruner.sites, pruner.gates, strict=True):
        if site.role in ATTENTION[:3] and site.heads and gate.mask.shape[0] % site.heads == 0:
            left = gate.mask.view(site.heads, -1).any(1)
            found[site.layer] = found[site.layer] & left if site.layer in found else left
    return list(found.values())


def inside(out: Any) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Hidden states and attention maps of a forward pass; empty where it did not return them."""
    return tuple(out.get("hidden_states") or ()), tuple(out.get("attentions") or ())
