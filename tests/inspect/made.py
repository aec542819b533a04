"""Safetensors files written byte by byte, so that every type and every fault can be made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper 16 bits of single precision: a bfloat16 rounded towards zero."""
    return (np.ascontiguousarray(values, dtype="<f4").view(np.uint32) >> 16).astype("<u2")


def write(path: Path, tensors: dict[str, tuple[str, tuple[int, ...], np.ndarray]]) -> Path:
    """Writes name → (dtype, shape, raw array) in the order given."""
    header: dict[str, Any] = {}
    at = 0
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + raw.nbytes]}
        at += raw.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, raw in tensors.values():
            file.write(np.ascontiguousarray(raw).tobytes())
    return path


def floats(dtype: str, values: np.ndarray) -> tuple[str, tuple[int, ...], np.ndarray]:
    """One tensor of a float type that numpy has, or bfloat16."""
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    raw = bfloat16(values) if dtype == "BF16" else values.astype(kinds[dtype])
    return dtype, values.shape, raw


def read(dtype: str, raw: np.ndarray) -> np.ndarray:
    """What the raw array means, in double precision."""
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return raw.astype(np.float64)


def raw(path: Path, header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> Path:
    """Writes a safetensors file byte by byte, valid or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2,), start: int = 0, end: int = 8) -> dict[str, Any]:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
