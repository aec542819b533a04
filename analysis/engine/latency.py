"""What a cut does to the time of a forward pass: dense, masked, sparse and physically reduced, in turns.

Speed is measured and never inferred from sparsity: the same zeros are a loss or a gain depending on the
kernel that meets them, so every row names its kernel.
"""

from __future__ import annotations

import copy
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from analysis.engine.compact import compact
from analysis.engine.oneshot import OneShot
from analysis.errors import ModelError

ROUNDS = 15
SPARSE = 0.9  # sparsity from which a matrix is tried as CSR; with less, it took longer wherever it was timed
OUTPUTS = ("logits", "start_logits", "end_logits")
Inputs = dict[str, torch.Tensor]


@dataclass
class Variant:
    """A form of the model that is timed.

    Attributes:
        name: "dense", "masked", "CSR", "reduced", or "reduced as opened".
        kernel: what multiplies its matrices.
        model: the model, None where there is no such form.
        like: name of the variant that must give the same outputs, "" for none.
        reason: why there is no such form.
    """

    name: str
    kernel: str
    model: nn.Module | None
    like: str = ""
    reason: str = ""


class Sparse(nn.Module):
    """A linear layer whose weight is stored as CSR: (W x^T)^T + b, the order in which MKL is fast."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            self.weight = nn.Buffer(linear.weight.detach().to_sparse_csr())
        self.bias = linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns [..., outputs] for [..., inputs]."""
        flat = x.reshape(-1, self.in_features)
        out = (self.weight @ flat.T).T.reshape(*x.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias


def kernel(device: torch.device) -> str:
    """Names the libraries that multiply dense float32 matrices here, as torch's own configuration does."""
    threads = torch.get_num_threads()
    end = f"torch {torch.__version__.partition('+')[0]}, {threads} thread{'s' if threads > 1 else ''}"
    if device.type == "cuda":
        return f"cuBLAS on {torch.cuda.get_device_name(device)}, {end}"
    config = torch.__config__.show()
    patterns = {"MKL": r"Math Kernel Library Version ([\d.]+)", "oneDNN": r"MKL-DNN v([\d.]+)"}
    found = [f"{name} {m[1]}" for name, pattern in patterns.items() if (m := re.search(pattern, config))]
    if not found:
        found = [m[1] if (m := re.search(r"BLAS_INFO=(\w+)", config)) else "torch's own loops"]
    return f"{' and '.join(found)} ({torch.backends.cpu.get_cpu_capability()}), {end}"


def variants(model: nn.Module, cut: OneShot, masked: Callable[[], None] | None) -> Iterator[Variant]:
    """Builds the forms of a model one after the other.

    Args:
        model: the model as it was opened.
        cut: its prunable weights.
        masked: cuts them; None where no cut was asked for.

    Yields:
        dense first; the others are copies that share nothing but the embeddings with it.
    """
    device = next(model.parameters()).device
    dense = f"dense float32: {kernel(device)}"
    yield Variant("dense", dense, model)
    opened = _reduced("reduced as opened", dense, _copy(model), "dense", "as opened")
    if opened.model is not None or masked is None:
        yield opened
    if masked is None:
        return
    masked()
    zeroed = _copy(model)
    sparsity = cut.zeros / cut.counts.prunable
    cut.restore()
    yield Variant("masked", dense, zeroed)
    yield _sparse(zeroed, cut, sparsity, device)
    yield _reduced("reduced", dense, _copy(zeroed), "masked", "after the cut")


def _copy(model: nn.Module) -> nn.Module:
    # Embeddings are most of a small model's memory, and no cut touches them.
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    return copy.deepcopy(model, {id(p): p for m in tables for p in m.parameters()})


def _sparse(model: nn.Module, cut: OneShot, sparsity: float, device: torch.device) -> Variant:
    names = [s.name for s in cut.sites if isinstance(s.module, nn.Linear)]
    reason = ""
    if sparsity < SPARSE:
        zero, least = 100 * sparsity, 100 * SPARSE
        reason = f"{zero:.3g} % of the prunable weights are zero, and CSR is tried from {least:.0f} % on."
    elif device.type != "cpu":
        reason = "CSR is timed on the CPU only."
    elif not names:
        reason = "none of the prunable weights is a linear layer's, and CSR has no convolution."
    if reason:
        return Variant("CSR", "", None, reason=reason)
    sparse = _copy(model)
    for name in names:
        linear = sparse.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        if float((linear.weight == 0).float().mean()) >= SPARSE:
            sparse.set_submodule(name, Sparse(linear))
    return Variant("CSR", f"CSR float32, (W xᵀ)ᵀ by torch.sparse: {kernel(device)}", sparse, "masked")


def _reduced(name: str, kernel_: str, model: nn.Module, like: str, when: str) -> Variant:
    before = parameters(model)
    try:
        compact(model)
    except ModelError as error:
        return Variant(name, "", None, reason=str(error))
    if parameters(model) == before:
        reason = f"no whole head, neuron or filter is empty {when}, so nothing can be cut out."
        return Variant(name, "", None, reason=reason)
    return Variant(name, kernel_, model, like)


def parameters(model: nn.Module) -> int:
    """Numbers that a model stores; of a sparse matrix those that are not zero."""
    stored = sum(m.weight.values().numel() for m in model.modules() if isinstance(m, Sparse))
    return stored + sum(p.numel() for p in model.parameters())


def measure(
    forms: list[Variant], inputs: Inputs, examples: int, tell: Callable[[int], object]
) -> list[dict[str, Any]]:
    """Times the variants in turns, so that a busy machine disturbs all of them alike.

    Args:
        forms: dense first.
        inputs: arguments of the forward.
        examples: how many examples they are.
        tell: takes the number of examples after each forward; what it raises ends the work.

    Returns:
        one row per variant: seconds (median, lower and upper quartile), ratio of the medians to dense,
        parameters, largest difference of the outputs to the variant it must equal, kernel, reason.
    """
    for form in forms:
        if form.model is not None:
            form.model.eval()
    alive = {f.name: f.model for f in forms if f.model is not None}
    outputs = {name: _answer(model, inputs)[0] for name, model in alive.items()}  # also the warm-up
    times: dict[str, list[float]] = {name: [] for name in alive}
    for _ in range(ROUNDS):
        for name, model in alive.items():
            times[name].append(_answer(model, inputs)[1])
            tell(examples)
    rows = []
    for form in forms:
        row: dict[str, Any] = {"variant": form.name, "kernel": form.kernel, "reason": form.reason}
        if form.model is not None:
            own = np.array(times[form.name])
            low, median, high = np.quantile(own, (0.25, 0.5, 0.75))
            row |= {"seconds": float(median), "low": float(low), "high": float(high), "rounds": ROUNDS}
            row |= {
                "ratio": float(median / np.median(times["dense"])),
                "parameters": parameters(form.model),
            }
            if form.like:
                row["difference"] = float((outputs[form.name] - outputs[form.like]).abs().max())
        rows.append(row)
    return rows


@torch.no_grad()
def _answer(model: nn.Module, inputs: Inputs) -> tuple[torch.Tensor, float]:
    cuda = next(iter(inputs.values())).is_cuda
    if cuda:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    out = model(**inputs)
    if cuda:
        torch.cuda.synchronize()
    spent = time.perf_counter() - begun
    return torch.cat([out[name].float() for name in OUTPUTS if name in out], -1), spent
