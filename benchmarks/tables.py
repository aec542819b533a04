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
STAGED = ("spd", "grain", "pela", "mlpruning")  # these have twice as many


def results(task: str) -> pd.DataFrame:
    """The recorded test results of the real encoder on one task."""
    found = frames.results(RECORDED, recorded=False)
    real = found["model"].str.contains("MiniLM") & (found["split"] == "test")
    if task == "systems":
        return found[real & found["task"].str.contains("sst2")]
    return found[real & found["task"].str.contains(task) & (found["steps"] != SHORT)]


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
    """Every recipe beside magnitude at the same keep and number of steps, in Markdown."""
    found = results("systems")
    rivals = {
        (row["keep_target"], row["steps"]): row["value"]
        for _, row in found[found["recipe"] == "magnitude"].iterrows()
    }
    dense = found[(found["recipe"] == "dense") & (found["steps"] == SHORT)].iloc[-1]["macs"] / SHORT
    lines = [
        "| recipe | steps | asked | kept | accuracy | against magnitude | training compute, of dense |",
        "|---" * 7 + "|",
    ]
    chosen = found[(found["steps"] == SHORT) | found["recipe"].isin(STAGED)]
    for _, row in chosen.sort_values(["keep_target", "value"], ascending=False).iterrows():
        rival = rivals.get((row["keep_target"], row["steps"]))
        apart = f"{row['value'] - rival:+.3f}" if rival and row["recipe"] != "magnitude" else ""
        lines.append(
            f"| {row['recipe']} | {row['steps']:,} | {row['keep_target'] * 100:g} % "
            f"| {row['keep_prunable'] * 100:.1f} % | {row['value']:.3f} "
            f"| {apart} | {row['macs'] / dense / row['steps']:.2f} |"
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
