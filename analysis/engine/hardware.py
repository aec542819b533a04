"""What this machine has: device and number format."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from analysis.errors import SpecError
from analysis.spec import Training


def device_of(training: Training) -> torch.device:
    """The device a run computes on; CUDA is used when there is one and never required.

    Raises:
        SpecError: CUDA was asked for and there is none.
    """
    if training.device == "cuda" and not torch.cuda.is_available():
        raise SpecError("training.device is 'cuda' but this machine has no CUDA device; use 'auto' or 'cpu'.")
    if training.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")


def _cpu_multiplies_bf16() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            flags = info.read()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def precision_of(training: Training, device: torch.device, model: nn.Module) -> str:
    """The number format matrix products use: "bf16" or "fp32".

    "auto" means bfloat16 where the hardware multiplies it, but not for narrow models: below a width of 256
    the conversions cost more than the products save.
    """
    if training.precision != "auto":
        return training.precision
    width = getattr(getattr(model, "config", None), "hidden_size", 0) or 0
    able = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_multiplies_bf16()
    return "bf16" if able and width >= 256 else "fp32"


def computing_in(precision: str, device: str) -> AbstractContextManager[Any]:
    """The context that computes in a number format.

    Args:
        precision: "fp32", or "bf16" for mixed precision.
        device: where it computes, such as "cpu".
    """
    if precision == "bf16":
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    return nullcontext()
