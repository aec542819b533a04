"""What can be said of every number type: its codes, the value each code stands for, and which one is zero.

=====================  =================  ==========================================================
types                  codes              what is said
=====================  =================  ==========================================================
BF16 F16 F8_* F4       every bit pattern  everything, exactly (F4: two values to a byte)
I8 U8 I16 U16 BOOL     every value        everything, exactly
F32                    upper 17 bits      zeros, extremes, mean, spread exactly; a code spans 1/256
                                          of its value, so quantiles are that coarse
F64 C64                as F32             as F32, of the value or of |z| in single precision
I32 U32 I64 U64        none               zeros, extremes, mean
F6_*, GGUF's own       none               number of bytes
=====================  =================  ==========================================================

A non-negative float's bits, read as a whole number, sort like the float: hence counting bit patterns gives
every quantile and every threshold in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

WIDE_CODES = 1 << 17
WIDE_SHIFT = 15


@dataclass(frozen=True)
class Kind:
    """One number type.

    Attributes:
        storage: numpy type of what is read from the file.
        codes: how many codes there are, 0 where none are counted.
        magnitude: bits that are clear in a zero; 0 where numpy itself compares with zero.
        packed: values in one item of ``storage``.
    """

    storage: str
    codes: int = 0
    magnitude: int = 0
    packed: int = 1

    @property
    def exact(self) -> bool:
        """Whether a code stands for one value."""
        return 0 < self.codes < WIDE_CODES


KINDS: dict[str, Kind] = {
    "F64": Kind("<f8", WIDE_CODES),
    "F32": Kind("<f4", WIDE_CODES),
    "C64": Kind("<c8", WIDE_CODES),
    "F16": Kind("<u2", 65536, 0x7FFF),
    "BF16": Kind("<u2", 65536, 0x7FFF),
    "F8_E4M3": Kind("u1", 256, 0x7F),
    "F8_E5M2": Kind("u1", 256, 0x7F),
    "F8_E4M3FNUZ": Kind("u1", 256, 0xFF),
    "F8_E5M2FNUZ": Kind("u1", 256, 0xFF),
    "F8_E8M0": Kind("u1", 256, 0x1FF),  # a power of two, never zero: see ``nonzero``
    "F4": Kind("u1", 16, 0x7, packed=2),
    "I8": Kind("u1", 256, 0xFF),
    "U8": Kind("u1", 256, 0xFF),
    "BOOL": Kind("u1", 256, 0xFF),
    "I16": Kind("<u2", 65536, 0xFFFF),
    "U16": Kind("<u2", 65536, 0xFFFF),
    "I32": Kind("<i4"),
    "U32": Kind("<u4"),
    "I64": Kind("<i8"),
    "U64": Kind("<u8"),
}
FLOATS = ("F64", "F32", "C64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F4")


def nonzero(kind: Kind, raw: np.ndarray) -> np.ndarray:
    """Says which values are not zero; −0 is zero, NaN is not.

    Args:
        kind: the number type.
        raw: items as ``unpack`` returns them, any shape.

    Returns:
        bool of the same shape.
    """
    if not kind.magnitude:
        return np.asarray(raw != 0)
    if kind.magnitude > 0xFF and raw.itemsize == 1:
        return np.ones(raw.shape, dtype=bool)
    return np.asarray((raw & raw.dtype.type(kind.magnitude)) != 0)


def unpack(kind: Kind, raw: np.ndarray) -> np.ndarray:
    """Gives one item per value: F4 holds two, the first in the lower half of its byte."""
    if kind.packed == 1:
        return raw
    out = np.empty(2 * raw.size, dtype=np.uint8)
    out[0::2], out[1::2] = raw & 15, raw >> 4
    return out


def codes(dtype: str, raw: np.ndarray) -> np.ndarray:
    """Gives the code of every value: whole numbers in [0, ``Kind.codes``)."""
    if KINDS[dtype].codes != WIDE_CODES:
        return raw
    return narrow(dtype, raw).view(np.uint32) >> np.uint32(WIDE_SHIFT)


def narrow(dtype: str, raw: np.ndarray) -> np.ndarray:
    """Gives values of a wide type in single precision: of a complex number its absolute value."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.abs(raw) if dtype == "C64" else raw.astype(np.float32, copy=False)


@cache
def edges(dtype: str) -> np.ndarray:
    """Gives the value of each code, float64 [codes]; of a wide type the end nearer to zero of its range.

    NaN where the code is no finite value; ±0 for the codes of zero (in a wide type they also hold what is
    smaller than 2⁻¹³⁴).
    """
    with np.errstate(invalid="ignore"):  # the cast of a signalling NaN
        values = _values(dtype)
    return np.where(np.isfinite(values), values, np.nan)


def _values(dtype: str) -> np.ndarray:
    kind = KINDS[dtype]
    numbers = np.arange(kind.codes, dtype=np.uint32)
    if kind.codes == WIDE_CODES:
        return (numbers << np.uint32(WIDE_SHIFT)).view(np.float32).astype(np.float64)
    if dtype == "BF16":
        return (numbers << np.uint32(16)).view(np.float32).astype(np.float64)
    if dtype == "F16":
        return numbers.astype(np.uint16).view(np.float16).astype(np.float64)
    if dtype in ("I8", "I16"):
        return np.where(numbers < kind.codes // 2, 0.0, -float(kind.codes)) + numbers
    if dtype in ("U8", "U16", "BOOL"):
        return numbers.astype(np.float64)
    return np.array([_small(dtype, int(c)) for c in numbers])


def middles(sizes: np.ndarray) -> np.ndarray:
    """Gives the middle of the range of a wide type's code, from its end nearer to zero; float64 [n]."""
    bits = sizes.astype(np.float32).view(np.uint32)
    ends = ((bits >> np.uint32(WIDE_SHIFT)) + np.uint32(1)) << np.uint32(WIDE_SHIFT)
    upper = ends.view(np.float32).astype(np.float64)
    return np.where(np.isfinite(upper), (sizes + upper) / 2, sizes)


@cache
def zero_codes(dtype: str) -> np.ndarray:
    """Gives the codes of zero, int64 [n]; in a wide type they also hold what is smaller than 2⁻¹³⁴."""
    return np.flatnonzero(edges(dtype) == 0)


# exponent bits, mantissa bits, bias
_SMALL = {
    "F8_E4M3": (4, 3, 7),
    "F8_E5M2": (5, 2, 15),
    "F8_E4M3FNUZ": (4, 3, 8),
    "F8_E5M2FNUZ": (5, 2, 16),
    "F4": (2, 1, 1),
}


def _small(dtype: str, code: int) -> float:
    if dtype == "F8_E8M0":
        return float("nan") if code == 255 else 2.0 ** (code - 127)
    exponent_bits, mantissa_bits, bias = _SMALL[dtype]
    sign = -1.0 if code >> (exponent_bits + mantissa_bits) else 1.0
    exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = code & ((1 << mantissa_bits) - 1)
    if dtype.endswith("FNUZ") and code == 0x80:  # what would be −0
        return float("nan")
    if dtype == "F8_E4M3" and code & 0x7F == 0x7F:
        return float("nan")
    if dtype == "F8_E5M2" and exponent == 31:
        return float("nan")
    if exponent == 0:
        return sign * mantissa * 2.0 ** (1 - bias - mantissa_bits)
    return sign * (1 + mantissa / (1 << mantissa_bits)) * 2.0 ** (exponent - bias)
