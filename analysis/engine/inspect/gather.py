"""What a comparison has found so far: the rows of whole pairs and the tables of counts by layer and role."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from analysis.engine.inspect.contrast import Contrast, edges, full
from analysis.store import arrays

Full = tuple[np.ndarray, np.ndarray]
Group = tuple[int, str, bool]


class Gathered:
    """Rows and counts of the pairs that are done, in their order, so that a later process can go on."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.groups: dict[Group, tuple[Full, Full]] = {}

    def add(self, row: dict[str, Any], contrast: Contrast | None) -> None:
        """Takes the row of a pair, and its counts; None where it has none or they are in already."""
        self.rows.append(row)
        if contrast is None:
            return
        group = (row["layer"], row["role"], row["prunable"])
        plane, sizes = self.groups.get(group, ((), ()))
        self.groups[group] = _sum(contrast.plane, plane), _sum(contrast.sizes, sizes)

    def planes(self) -> dict[str, np.ndarray]:
        """Returns the counts as the arrays of ``planes.npz``."""
        layers, roles, prunable = zip(*self.groups, strict=True) if self.groups else ((), (), ())
        out = {
            "layer": np.array(layers, dtype=np.int64),
            "role": np.array(roles, dtype=str),
            "prunable": np.array(prunable, dtype=bool),
            "edges": edges(),
        }
        for place, prefix in ((0, ""), (1, "size_")):
            parts = [group[place] for group in self.groups.values()]
            out[f"{prefix}starts"] = np.cumsum([0, *(len(cells) for cells, _ in parts)], dtype=np.int64)
            out[f"{prefix}cells"] = np.concatenate([np.zeros(0, np.uint16), *(cells for cells, _ in parts)])
            out[f"{prefix}counts"] = np.concatenate([np.zeros(0, np.int64), *(n for _, n in parts)])
        return out

    def save(self, path: Path, key: str) -> None:
        """Writes everything down under a key that says of what it is."""
        told = {"key": key, "rows": json.dumps(self.rows)}
        arrays.save_arrays(path, self.planes() | {k: _bytes(v) for k, v in told.items()})

    @classmethod
    def load(cls, path: Path, key: str) -> Gathered:
        """Reads what was saved under this key; nothing when there is nothing, or it is damaged."""
        out = cls()
        try:
            found = arrays.load_arrays(path)
            if _text(found["key"]) != key:
                return out
            for i, group in enumerate(zip(found["layer"], found["role"], found["prunable"], strict=True)):
                parts = []
                for prefix in ("", "size_"):
                    here = slice(*found[f"{prefix}starts"][i : i + 2])
                    parts.append((found[f"{prefix}cells"][here], found[f"{prefix}counts"][here]))
                out.groups[int(group[0]), str(group[1]), bool(group[2])] = parts[0], parts[1]
            out.rows = json.loads(_text(found["rows"]))
        except (OSError, ValueError, KeyError):
            return cls()
        return out


def _sum(table: np.ndarray, more: Full | tuple[()]) -> Full:
    if more:
        table = table.copy()
        table[more[0]] += more[1]
    return full(table)


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _text(found: np.ndarray) -> str:
    return found.tobytes().decode()
