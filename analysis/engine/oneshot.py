"""One-shot cuts of a trained model: the same sites as in a run, an exact selection, and no training after."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from analysis.engine.sites import Site, count_parameters, find_sites
from analysis.errors import ModelError
from analysis.parts.select import TopK

SCORES = "mask_scores"  # beside ``weight``, as the code of movement pruning stores them


class OneShot:
    """The prunable weights of a model, which can be cut and put back.

    Attributes:
        sites: the prunable weights; biases, norms, embeddings and heads are never among them.
        counts: parameters under each denominator.
    """

    def __init__(self, model: nn.Module) -> None:
        self.sites = find_sites(model)
        self.counts = count_parameters(model, self.sites)
        self._start = [s.weight.detach().clone() for s in self.sites]

    @property
    def zeros(self) -> int:
        """How many prunable weights are exactly zero now."""
        return sum(s.weight.numel() - int(s.weight.detach().count_nonzero()) for s in self.sites)

    @torch.no_grad()
    def cut(self, keep: float, scope: str, scores: list[torch.Tensor] | None = None) -> None:
        """Sets all but the highest scores to zero, starting from the model as it was opened.

        Args:
            keep: fraction of the weights that stay, in (0, 1]; floor(keep * n) of them exactly, per matrix
                (local) or of all (global), the lower index first among equal scores.
            scope: "global" or "local".
            scores: one tensor per site, shaped like its weight, higher = kept; None for magnitudes.
        """
        ranked = scores if scores is not None else [w.abs() for w in self._start]
        flat = [s.detach().float().flatten() for s in ranked]
        masks = TopK(scope=scope).choose(flat, keep)
        for site, weight, mask in zip(self.sites, self._start, masks, strict=True):
            # Not a product: what is cut goes, whatever it was, and NaN * 0 is NaN.
            site.weight.copy_(weight.masked_fill(~mask.view_as(weight), 0.0))

    @torch.no_grad()
    def restore(self) -> None:
        """Puts the weights back."""
        for site, weight in zip(self.sites, self._start, strict=True):
            site.weight.copy_(weight)


def stored_scores(folder: Path, sites: list[Site], prefix: str, name: str) -> list[torch.Tensor]:
    """Reads the scores that a model folder stores beside its weights, as ``MODULE.mask_scores``.

    Args:
        folder: the model folder.
        sites: what is to be cut.
        prefix: name of the model's body, which a file may leave out.
        name: what the user typed, for error sentences.

    Returns:
        one tensor per site, shaped like its weight.

    Raises:
        ModelError: there are none, some are missing, or they are not one per weight.
    """
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            keys = [key for key in opened.keys() if key.endswith(f".{SCORES}")]
            found |= {key.removesuffix(f".{SCORES}"): opened.get_tensor(key) for key in keys}
    if not found:
        sample = " (a run keeps a sample of its scores, not all of them)" if name.startswith("run:") else ""
        raise ModelError(
            f"{name} stores no scores{sample}: its files hold no tensor named MODULE.{SCORES}; choose by "
            "magnitude, or give a checkpoint that has them."
        )
    short = [(s, s.name if s.name in found else s.name.removeprefix(f"{prefix}.")) for s in sites]
    lost = [s.name for s, key in short if key not in found]
    if lost:
        raise ModelError(
            f"{name} stores scores for {len(sites) - len(lost)} of {len(sites)} prunable matrices, not for "
            f"{lost[0]}; choose by magnitude."
        )
    scores = [found[key] for _, key in short]
    for site, score in zip(sites, scores, strict=True):
        if score.shape != site.weight.shape:
            shapes = [" × ".join(map(str, t.shape)) for t in (score, site.weight)]
            raise ModelError(
                f"The scores of {site.name} in {name} are {shapes[0]} and its weight is {shapes[1]}; only "
                "one score per weight is understood: choose by magnitude."
            )
    return scores
