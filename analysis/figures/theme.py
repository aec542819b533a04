"""Ten colours, a symbol and a dash for every recipe, and one light and one dark plotly template.

The colours descend from Okabe and Ito's, moved until every one has a contrast of about 3 : 1 or more on
white and on
the dark page, and any two stay apart under simulated protanopia and deuteranopia. Recipes that share a hue
differ in symbol and dash, so that lines can also be told apart in grey.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

COLORS: tuple[str, ...] = (
    "#0072B2",  # blue
    "#C24E00",  # vermilion
    "#08A77A",  # green
    "#CF79B0",  # pink
    "#D38300",  # orange
    "#1674FF",  # azure
    "#8E964C",  # olive
    "#B33241",  # red
    "#7589EA",  # periwinkle
    "#6E627B",  # grey
)

SYMBOLS: tuple[str, ...] = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "cross",
    "x",
    "star",
    "pentagon",
    "hexagon",
)

DASHES: tuple[str, ...] = (
    "solid",
    "dash",
    "dot",
    "dashdot",
    "longdash",
    "longdashdot",
    "8px,3px",
    "2px,3px",
    "12px,3px,3px,3px",
    "5px,8px",
)

KEPT, PRUNED, MIXED = "#0072B2", "#D55E00", "#8C8C8C"


@dataclass(frozen=True)
class Style:
    """How one recipe is drawn everywhere: colour (hex), plotly marker symbol, plotly dash."""

    color: str
    symbol: str
    dash: str


_SLOTS: dict[str, tuple[int, int, int]] = {  # recipe: (colour, symbol, dash)
    "dense": (9, 9, 7),
    "random": (6, 6, 2),
    "magnitude": (1, 1, 1),
    "movement": (0, 0, 0),
    "soft_movement": (2, 2, 3),
    "l0": (3, 3, 4),
    "block_movement": (5, 4, 5),
    "mlpruning": (8, 8, 6),
    "pins": (4, 5, 8),
    "grain": (7, 7, 9),
    "spd": (0, 5, 4),
    "pela": (5, 9, 5),
    "compute_optimal": (2, 8, 1),
    "powerprop": (3, 0, 6),
    "gradient_flow": (4, 3, 0),
    "extrapolation": (7, 4, 8),
}

_TITLES = {
    "l0": "L0",
    "mlpruning": "MLPruning",
    "pins": "PINS",
    "grain": "GRAIN",
    "spd": "SPD",
    "pela": "PELA",
    "powerprop": "Powerpropagation",
}


def recipe_style(name: str) -> Style:
    """Returns the one style of a recipe; a name outside the table gets a fixed style from its letters.

    Args:
        name: recipe name such as "soft_movement".

    Returns:
        the colour, symbol and dash used on every page.
    """
    slots = _SLOTS.get(name)
    if slots is None:
        code = zlib.crc32(name.encode("utf-8", "replace"))  # hash() differs from process to process
        slots = (code % 9, code // 9 % len(SYMBOLS), code // 97 % len(DASHES))
    return Style(COLORS[slots[0]], SYMBOLS[slots[1]], DASHES[slots[2]])


def line_style(position: int) -> Style:
    """Returns a style by position, for things that are not recipes; it repeats only after 100 positions."""
    turn = position // len(COLORS)
    return Style(
        COLORS[position % len(COLORS)],
        SYMBOLS[(position + turn) % len(SYMBOLS)],
        DASHES[(position + 3 * turn) % len(DASHES)],
    )


def recipe_title(name: str) -> str:
    """Returns the name of a recipe as it is written in a legend: "soft_movement" becomes "soft movement"."""
    return _TITLES.get(name, name.replace("_", " "))


@dataclass(frozen=True)
class Ink:
    """The neutral colours of a page: paper, text, grid lines, faint marks, and the tint of an empty cell."""

    paper: str
    text: str
    grid: str
    faint: str
    cell: str


LIGHT = Ink(paper="#FFFFFF", text="#262730", grid="#E3E5EA", faint="#767B87", cell="#F2F3F6")
DARK = Ink(paper="#0E1117", text="#F1F2F6", grid="#2C313C", faint="#9AA0AC", cell="#1B1F29")


def ink(dark: bool = False) -> Ink:
    """Returns the neutral colours of the light or the dark page."""
    return DARK if dark else LIGHT


def rgb(color: str) -> tuple[int, int, int]:
    """Splits a hex colour such as "#0072B2" into three integers from 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def mix(first: str, second: str, share: float) -> str:
    """Mixes two hex colours: share 0 gives the first, 1 the second."""
    pairs = zip(rgb(first), rgb(second), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in pairs)


def texture(place: int, dark: bool = False) -> dict[str, Any]:
    """Returns a pattern laid over a bar's colour, so that bars differ in grey; place 0 is plain."""
    shape = ("", "/", "x", ".", "-", "|", "+", "\\")[place % 8]
    return {"shape": shape, "fillmode": "overlay", "fgcolor": ink(dark).paper, "fgopacity": 0.55, "size": 7}


def fade(color: str, opacity: float) -> str:
    """Returns a hex colour as an rgba text with the given opacity in [0, 1]."""
    r, g, b = rgb(color)
    return f"rgba({r},{g},{b},{opacity:g})"


def ramp(stops: Sequence[str], steps: int = 10) -> list[list[object]]:
    """Spreads hex colours evenly over [0, 1] as a plotly colour scale of exactly ``steps`` entries."""
    last, out = len(stops) - 1, []
    for i in range(steps):
        at = i / (steps - 1) * last
        low = min(int(at), last - 1)
        out.append([i / (steps - 1), mix(stops[low], stops[low + 1], at - low)])
    return out


def sequential(dark: bool = False) -> list[list[object]]:
    """Ten steps from the page's tint to deep blue (light) or pale blue (dark): more stands out more."""
    return ramp(
        [DARK.cell, "#0B4F79", "#2A8FC7", "#BFE3F7"]
        if dark
        else [LIGHT.cell, "#9CCBE6", "#0072B2", "#062F4A"]
    )


def diverging(dark: bool = False) -> list[list[object]]:
    """Ten steps from vermilion over the page's neutral to blue."""
    return ramp([PRUNED, "#35322F" if dark else "#EFEDEA", "#3FA0DC" if dark else KEPT])


def _template(page: Ink, dark: bool) -> go.layout.Template:
    axis = {
        "gridcolor": page.grid,
        "linecolor": page.faint,
        "zerolinecolor": page.grid,
        "tickcolor": page.faint,
        "ticks": "outside",
        "ticklen": 4,
        "showline": True,
        "automargin": True,
        "title": {"standoff": 10, "font": {"size": 13}},
        "tickfont": {"size": 12},
    }
    layout = go.Layout(
        colorway=list(COLORS),
        colorscale={
            "sequential": sequential(dark),
            "sequentialminus": sequential(dark),
            "diverging": diverging(dark),
        },
        paper_bgcolor=page.paper,
        plot_bgcolor=page.paper,
        font={
            "color": page.text,
            "family": "Source Sans, Source Sans Pro, Helvetica, Arial, sans-serif",
            "size": 13,
        },
        title={"font": {"size": 15}, "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 12}},
        xaxis=axis,
        yaxis=axis,
        legend={"bgcolor": "rgba(0,0,0,0)", "font": {"size": 12}},
        hoverlabel={
            "bgcolor": page.cell,
            "bordercolor": page.faint,
            "font": {"color": page.text, "size": 12},
        },
        margin={"l": 64, "r": 24, "t": 48, "b": 56},
        annotationdefaults={"font": {"color": page.text, "size": 12}, "arrowcolor": page.faint},
        shapedefaults={"line": {"color": page.faint}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": page.faint, "activecolor": page.text},
    )
    bar = {"colorbar": {"outlinewidth": 0, "ticks": "", "thickness": 14, "tickfont": {"size": 11}}}
    return go.layout.Template(layout=layout, data={"heatmap": [bar]})


TEMPLATES: dict[str, go.layout.Template] = {"light": _template(LIGHT, False), "dark": _template(DARK, True)}


def template(dark: bool = False) -> go.layout.Template:
    """Returns the light or the dark template; always passed, because streamlit replaces the default one."""
    return TEMPLATES["dark" if dark else "light"]
