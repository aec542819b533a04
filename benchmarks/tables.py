"""Prints the tables of recorded runs that stand in the README, from the recorded runs themselves.

python benchmarks/tables.py sst2
python benchmarks/tables.py mrpc
python benchmarks/tables.py systems
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

from analysis import frames
from analysis.store.layout import RECORDED

KEEPS = (0.5, 0.3, 0.15, 0.1, 0.03)
RECIPES = ("magnitude", "movement", "soft_movement")
SHORT = 500  # steps of the runs that compare all systems


def results(task: str) -> pd.DataFrame:
    """The recorded test results of the real encoder on one task."""
    found = frames.results(RECORDED, recorded=False)
    real = found["model"].str.contains("MiniLM") & (found["split"] == "test")
    short = found["steps"] == SHORT
    source = "sst2" if task == "systems" else task
    return found[real & found["task"].str.contains(source) & (short if task == "systems" else ~short)]


def cell(rows: pd.DataFrame) -> str:
    """One cell: the accuracy, and what was kept where that is not what was asked; "" without a run."""
    if rows.empty:
        return ""
    row = rows.iloc[-1]
    asked, kept = row["keep_target"], row["keep_prunable"]
    other = f" at {kept * 100:.1f} %" if abs(kept - asked) > 1e-3 else ""
    return f"{row['value']:.3f}{other}"


def table(task: str) -> list[str]:
    """The table in Markdown, one row a recipe and one column a keep."""
    found = results(task)
    lines = [
        f"| recipe | {' | '.join(f'{keep * 100:g} %' for keep in KEEPS)} |",
        "|---" * (len(KEEPS) + 1) + "|",
    ]
    for recipe in RECIPES:
        own = found[found["recipe"] == recipe]
        cells = [cell(own[(own["keep_target"] - keep).abs() < 1e-9]) for keep in KEEPS]
        lines.append(f"| {recipe} | {' | '.join(cells)} |")
    return lines


def systems() -> list[str]:
    """Every recipe beside magnitude at the same keep, in Markdown: accuracy, what was kept, compute."""
    found = results("systems")
    dense = found[found["recipe"] == "dense"].iloc[-1]
    rivals = {row["keep_target"]: row["value"] for _, row in found[found["recipe"] == "magnitude"].iterrows()}
    lines = [
        "| recipe | asked | kept | accuracy | against magnitude | training compute, of dense |",
        "|---|---|---|---|---|---|",
    ]
    for _, row in found.sort_values(["keep_target", "value"], ascending=False).iterrows():
        rival = rivals.get(row["keep_target"])
        apart = f"{row['value'] - rival:+.3f}" if rival is not None and row["recipe"] != "magnitude" else ""
        lines.append(
            f"| {row['recipe']} | {row['keep_target'] * 100:g} % | {row['keep_prunable'] * 100:.1f} % "
            f"| {row['value']:.3f} | {apart} | {row['macs'] / dense['macs']:.2f} |"
        )
    return lines


def main() -> None:
    """Prints one table, the dense model's accuracy and the floor."""
    task = sys.argv[1] if len(sys.argv) > 1 else "sst2"
    found = results(task)
    dense = found[found["recipe"] == "dense"]
    lines = [
        *(systems() if task == "systems" else table(task)),
        "",
        f"dense {cell(dense)}, floor {found['floor'].mean():.3f}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
