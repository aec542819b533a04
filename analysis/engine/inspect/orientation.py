"""Which matrices are stored [inputs, outputs], the other way round than everybody else's.

GPT-2 does so; later models kept its names and store [outputs, inputs]. So a name only says that a matrix may
be turned: which it is, its bias and its neighbours tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from analysis.engine.blocks import block_of
from analysis.engine.inspect.names import role_of

_NAMES = re.compile(r"(?:^|\.)(?:c_attn|q_attn|c_proj|c_fc)\.weight$")


def turned(shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Finds the matrices that are stored [inputs, outputs].

    A bias has as many elements as there are outputs. Without one, there are more neurons than anything else,
    and more queries, keys and values than inputs. What is square takes the answer of its block, and where
    that has none, of GPT-2.

    Args:
        shapes: plain name of each tensor (``names.plain_name``) → its shape.

    Returns:
        the names of those that are.
    """
    own = {n: _told(n, s, shapes) for n, s in shapes.items() if len(s) == 2 and _NAMES.search(n)}
    blocks: dict[str | None, bool] = {}
    for name, told in own.items():
        if told is not None:
            blocks.setdefault(block_of(name, False), told)
    return {n for n, told in own.items() if (blocks.get(block_of(n, False), True) if told is None else told)}


def _told(name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> bool | None:
    """What a matrix says by itself; None where it says nothing."""
    rows, cols = shape
    if rows == cols:
        return None
    bias = shapes.get(name.removesuffix("weight") + "bias")
    if bias in ((rows,), (cols,)):
        return bias == (cols,)
    role = role_of(name, shape)
    if role in ("ffn in", "query_key_value"):
        return cols > rows
    return rows > cols if role == "ffn out" else None
