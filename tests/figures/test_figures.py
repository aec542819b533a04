"""What every figure promises, whatever it is given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go
import pytest

from analysis.figures import base, theme
from tests.figures.gallery import CASES, FIGURES, NAMES, Maker

COLOR = re.compile(r"#[0-9A-Fa-f]{6}|rgba\((\d{1,3},){3}[\d.e-]+\)")


def colors(node: Any, name: str = "") -> Iterator[str]:
    """Every text under a key that names a colour, in traces, layout and template."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from colors(value, key)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from colors(value, name)
    elif isinstance(node, str) and (name.endswith("color") or name in ("colorway", "colorscale")):
        yield node


def axes(figure: go.Figure) -> list[Any]:
    return [figure.layout[k] for k in figure.to_plotly_json()["layout"] if re.fullmatch(r"[xy]axis\d*", k)]


@pytest.mark.parametrize(("case", "dark"), [*((c, False) for c in CASES), ("empty", True), ("many", True)])
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_keeps_its_promises(name: str, case: str, dark: bool) -> None:
    figure = FIGURES[name](Maker(case), dark)
    text = figure.to_json()
    assert len(text) < 1_000_000
    assert len(figure.layout.meta["alt"]) > 15 and len(figure.layout.meta["how_to_read"]) > 15
    assert figure.layout.template.layout.paper_bgcolor == theme.ink(dark).paper
    shown = [axis for axis in axes(figure) if axis.title.text]
    assert len(shown) >= 2 and all("undefined" not in axis.title.text for axis in shown)
    quantities = {axis.title.text for axis in shown}
    assert any("(" in quantity for quantity in quantities), quantities
    found = list(colors(figure.to_plotly_json()))
    assert found and all(COLOR.fullmatch(c) for c in found), [c for c in found if not COLOR.fullmatch(c)][:3]
    assert "<b onclick" not in text and "\\u202e" not in text and "\u202e" not in text
    if case == "empty":
        assert len(figure.data) == 0 and figure.layout.annotations


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_frames_give_the_same_figure(name: str) -> None:
    first, second = (FIGURES[name](Maker("many"), False).to_json() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_many_rows_is_not_empty(name: str) -> None:
    figure = FIGURES[name](Maker("many"), False)
    assert len(figure.data) > 0


def test_ten_colours_that_stand_out_on_both_pages() -> None:
    assert len(theme.COLORS) == len(set(theme.COLORS)) == 10
    assert len(theme.SYMBOLS) == len(theme.DASHES) == 10
    for color in theme.COLORS:
        for page in (theme.LIGHT.paper, theme.DARK.paper):
            assert contrast(color, page) > 2.9, (color, page)


def contrast(a: str, b: str) -> float:
    def light(color: str) -> float:
        parts = [c / 255 for c in theme.rgb(color)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_recipe_can_be_told_apart_without_colour() -> None:
    recipes = (
        "dense random magnitude movement soft_movement l0 block_movement mlpruning pins grain spd pela "
        "compute_optimal powerprop gradient_flow extrapolation"
    ).split()
    styles = [theme.recipe_style(r) for r in recipes]
    assert len({(s.symbol, s.dash) for s in styles}) == len(recipes)
    assert len({s.color for s in styles[:6]}) == 6
    assert all(
        s.color in theme.COLORS and s.symbol in theme.SYMBOLS and s.dash in theme.DASHES for s in styles
    )
    assert theme.recipe_style("something new") == theme.recipe_style("something new")


def test_line_styles_repeat_only_after_a_hundred() -> None:
    assert len({theme.line_style(i) for i in range(100)}) == 100


def test_names_of_strangers_become_harmless_short_and_distinct() -> None:
    shown = base.texts(NAMES)
    assert len(set(shown)) == len(NAMES)
    assert all(len(s) <= 60 and "<" not in s and "\u202e" not in s and "\0" not in s for s in shown)


def test_colour_scales_have_exactly_ten_steps() -> None:
    for dark in (False, True):
        assert len(theme.sequential(dark)) == len(theme.diverging(dark)) == 10


def test_thinning_keeps_both_ends() -> None:
    frame = Maker("many").frame(v=range(3000))
    kept = base.thin(frame, 100)["v"].tolist()
    assert len(kept) == 100 and kept[0] == 0 and kept[-1] == 2999 and kept == sorted(kept)
