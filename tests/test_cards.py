"""Every recipe has a card, and the card is true to the recipe: sections, knobs, defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.parts import LOSSES, SLOTS, knobs
from analysis.recipes import RECIPES, build, card
from analysis.spec import with_settings

SECTIONS = [
    "In one line",
    "The idea in symbols",
    "What to look for on the pages",
    "Knobs and good values",
    "What it costs",
    "Where we differ from the paper and from its code",
    "Checks that show it is faithful",
    "Citation and licence",
]
FOLDER = Path(__file__).resolve().parent.parent / "analysis" / "recipes"
names = pytest.mark.parametrize("name", RECIPES)


def section(name: str, title: str) -> str:
    return card(name).split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def knobs_of(name: str) -> dict[str, object]:
    """``slot.field`` to the recipe's own value, for every part in its line-up."""
    parts = RECIPES[name].lineup
    filled = {slot: getattr(parts, slot) for slot in (*SLOTS, *LOSSES)}
    return {
        f"{slot}.{knob.name}": getattr(part, knob.name)
        for slot, part in filled.items()
        if part is not None
        for knob in knobs(type(part))
    }


def table(name: str) -> dict[str, list[str]]:
    """The knob table: first cell, without its backticks, to the other cells."""
    rows = [line for line in section(name, "Knobs and good values").splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_no_card_without_a_recipe() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted(RECIPES)


@names
def test_formulas_stand_on_lines_that_markdown_takes_for_formulas(name: str) -> None:
    opened = [line for line in card(name).splitlines() if line.count("$$") % 2]
    assert all(line == "$$" for line in opened) and len(opened) % 2 == 0


@names
def test_sections_in_order(name: str) -> None:
    text = card(name)
    assert re.findall(r"^## (.+)$", text, flags=re.M) == SECTIONS
    assert text.startswith(f"# {RECIPES[name].title}\n")
    empty = [title for title in SECTIONS if len(section(name, title).strip()) < 20]
    assert empty == []


@names
def test_one_line_is_one_paragraph(name: str) -> None:
    assert "\n\n" not in section(name, "In one line").strip()


@names
def test_knob_table_lists_exactly_the_fields(name: str) -> None:
    assert set(table(name)) == set(knobs_of(name))


@names
def test_knob_table_has_the_recipes_own_values(name: str) -> None:
    """The default column is read as a setting and must give back the recipe's line-up."""
    written = {knob: cells[0] for knob, cells in table(name).items()}
    spec = build(name, "bundled:text", "a.csv")
    moved = with_settings(spec, written)
    wrong = {
        knob: (text, value)
        for knob, text in written.items()
        for value in [knobs_of(name)[knob]]
        if getattr(getattr(moved.parts, knob.split(".")[0]), knob.split(".")[1])
        != (pytest.approx(value, rel=1e-3) if isinstance(value, float) else value)
    }
    assert wrong == {}


@names
def test_knob_rows_are_filled(name: str) -> None:
    assert [knob for knob, cells in table(name).items() if len(cells) != 3 or not all(cells)] == []


@names
def test_nothing_unfinished_and_no_broken_maths(name: str) -> None:
    text = card(name)
    assert re.findall(r"TODO|FIXME|XXX|KNOBS|\?\?", text) == []
    without_blocks = re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)
    assert "$$" not in without_blocks
    # One paragraph is one unit of inline maths: an odd dollar would swallow the text up to the next one.
    assert [p for p in without_blocks.split("\n\n") if p.count("$") % 2] == []
    assert all(body.count("{") == body.count("}") for body in re.findall(r"\$([^$]+)\$", text))


@names
def test_licence_is_named(name: str) -> None:
    assert "Apache-2.0" in section(name, "Citation and licence")


@pytest.mark.parametrize("name", ["magnitude", "movement", "soft_movement", "l0"])
def test_published_methods_cite_their_paper(name: str) -> None:
    assert "arXiv:2005.07683" in section(name, "Citation and licence")


def test_powerprop_cites_its_papers() -> None:
    cited = section("powerprop", "Citation and licence")
    assert "arXiv:2110.00296" in cited and "arXiv:2106.03517" in cited
