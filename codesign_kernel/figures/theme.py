"""One visual language: colours, type, a light and a dark Plotly template, and what a page needs to show a figure.

A figure is built light. Dark is the same figure with every colour of ``LIGHT`` swapped for its partner in ``DARK``, in
Python (:func:`dark`) or in the browser (``figure.js``), so that no plot function knows about themes.
"""

from __future__ import annotations

import copy
import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from codesign_kernel.figures.words import Scale

LIGHT: Mapping[str, str] = {
    "ground": "#FFFFFF",
    "panel": "#F6F7F9",
    "line": "#D9DEE5",
    "text": "#1B2430",
    "muted": "#5B6675",
    "quiet": "#C3C9D2",
    "accent": "#2563EB",
    "good": "#1A7F4B",
    "warning": "#B25E09",
    "bad": "#B42318",
}
DARK: Mapping[str, str] = {
    "ground": "#12161C",
    "panel": "#1A2029",
    "line": "#2C3541",
    "text": "#E8ECF1",
    "muted": "#9AA7B6",
    "quiet": "#465161",
    "accent": "#6EA0FF",
    "good": "#4CC38A",
    "warning": "#F0A04B",
    "bad": "#FF8A7A",
}
#: Okabe-Ito, always the same colour for the same thing.
CATEGORY: Mapping[str, str] = {
    "weights": "#0072B2",
    "inputs": "#E69F00",
    "outputs": "#009E73",
    "compute": "#D55E00",
    "memory": "#CC79A7",
    "idle": "#BBBBBB",
}
VIRIDIS = "Viridis"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace'
#: Below this width (px) a figure takes its narrow layout.
NARROW_PX = 600
#: Characters of a title and of a subtitle that fit a line, on a page and at 390 px.
_WRAP = {"wide": (72, 116), "narrow": (34, 48)}


def _axis() -> dict[str, Any]:
    return {
        "gridcolor": LIGHT["line"],
        "linecolor": LIGHT["muted"],
        "tickcolor": LIGHT["muted"],
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "title": {"font": {"size": 13, "color": LIGHT["muted"]}, "standoff": 8},
        "automargin": True,
    }


def _template() -> go.layout.Template:
    layout = {
        "font": {"family": FONT, "size": 13, "color": LIGHT["text"]},
        "title": {
            "font": {"size": 20, "color": LIGHT["text"]},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "yref": "container",
            "y": 1,
            "yanchor": "top",
            "pad": {"l": 16, "t": 18},
        },
        "paper_bgcolor": LIGHT["ground"],
        "plot_bgcolor": LIGHT["ground"],
        "colorway": list(CATEGORY.values()),
        "colorscale": {"sequential": VIRIDIS},
        "xaxis": _axis(),
        "yaxis": _axis(),
        "margin": {"l": 16, "r": 16, "t": 24, "b": 16},
        "separators": ".,",
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top", "font": {"size": 13}},
        "hoverlabel": {
            "bgcolor": LIGHT["panel"],
            "bordercolor": LIGHT["line"],
            "align": "left",
            "font": {"family": FONT, "size": 13, "color": LIGHT["text"]},
        },
        "hovermode": "closest",
        "dragmode": False,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": LIGHT["muted"], "activecolor": LIGHT["accent"]},
        "bargap": 0.35,
    }
    return go.layout.Template(layout=layout)


def recolour(node: Any) -> Any:
    """A copy of plain JSON data in which every light colour is its dark partner."""
    if isinstance(node, str):
        return _LIGHT_HEX.sub(lambda found: _TO_DARK[found[0]], node)
    if isinstance(node, Mapping):
        return {key: recolour(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [recolour(value) for value in node]
    return node


_TO_DARK = {LIGHT[name]: DARK[name] for name in LIGHT}
_LIGHT_HEX = re.compile("|".join(_TO_DARK))
TEMPLATE = _template()
TEMPLATE_DARK = go.layout.Template(recolour(TEMPLATE.to_plotly_json()))
# Named, so that a user's own figures can wear them; Plotly's default template stays as it is.
pio.templates["codesign"] = TEMPLATE
pio.templates["codesign_dark"] = TEMPLATE_DARK


def wrap(text: str, width: int) -> list[str]:
    """``text`` escaped for Plotly, in lines of at most ``width`` characters."""
    return [escape(line, quote=False) for line in textwrap.wrap(text, width)]


def plain(text: str) -> str:
    """A name from outside as text that Plotly cannot take for markup."""
    return escape(text, quote=False)


def finish(
    figure: go.Figure,
    *,
    title: str,
    subtitle: str,
    alt: str,
    height: int,
    caption: str = "",
    top: int = 16,
    narrow: Mapping[str, Any] | None = None,
) -> go.Figure:
    """Give ``figure`` the template, its title (the finding), subtitle (what is plotted) and its words for a page.

    Args:
        caption: what a reader has to know of the drawing, such as what was left out.
        alt: the same as the picture in one or two sentences.
        height: px, without the title.
        top: px that the drawing needs above its axes.
        narrow: layout changes for a narrow page: ``{"yaxis.domain": [0, 0.4], "annotations[0].x": 1, "height": 700}``.
    """
    words = {
        "title": title,
        "subtitle": subtitle,
        "caption": caption,
        "alt": alt,
        "height": height,
        "top": top,
        "narrow": dict(narrow or {}),
    }
    figure.update_layout(template=TEMPLATE, meta=words, **_heading(words, "wide"))
    return figure


def _heading(words: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Title and subtitle as one text: Plotly clips its own subtitles where a title has two lines."""
    size, sub_size = _WRAP[kind]
    title_px, line_px = (20, 15) if kind == "wide" else (15, 13)
    lines = [
        f"<span style='font-size:{title_px}px;font-weight:600'>{line}</span>" for line in wrap(words["title"], size)
    ]
    for key in ("subtitle", "caption"):
        lines += [
            f"<span style='font-size:13px;color:{LIGHT['muted']}'>{line}</span>" for line in wrap(words[key], sub_size)
        ]
    changes = words["narrow"] if kind == "narrow" else {}
    body, top = changes.get("height", words["height"]), changes.get("margin.t", words["top"])
    above = 36 + math.ceil(1.3 * line_px * len(lines))
    return {
        "title": {"text": "<br>".join(lines), "font": {"size": line_px}},
        "height": body + above,
        "margin": {"t": above + top},
    }


def _set(layout: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.replace("[", ".[").split(".")
    node: Any = layout
    for key in parents:
        node = node[int(key[1:-1])] if key.startswith("[") else node.setdefault(key, {})
    if last.startswith("["):
        node[int(last[1:-1])] = value
    else:
        node[last] = value


def narrowed(figure: go.Figure) -> go.Figure:
    """A copy of ``figure`` laid out for a page of 390 px."""
    spec = figure.to_plotly_json()
    layout = copy.deepcopy(spec["layout"])
    words = layout["meta"]
    for path, value in words["narrow"].items():
        _set(layout, path, value)
    heading = _heading(words, "narrow")
    layout["title"] = heading["title"]
    layout["height"] = heading["height"]
    layout["margin"] = {**layout.get("margin", {}), **heading["margin"]}
    return go.Figure({"data": spec["data"], "layout": layout})


def dark(figure: go.Figure) -> go.Figure:
    """A copy of ``figure`` in the dark theme."""
    return go.Figure(recolour(json.loads(figure.to_json())))


def page_spec(figure: go.Figure, file: str) -> dict[str, Any]:
    """``figure`` as plain JSON for ``figure.js``: the page sets title, subtitle and caption itself, so that they wrap.

    Args:
        file: name, without extension, under which the reader saves it.

    Returns:
        data, layout (without title and template), heading (title, top, height of a saved picture), file, and title,
        subtitle, caption, alt, narrow as given to :func:`finish`.
    """
    spec = json.loads(figure.to_json())
    layout = spec["layout"]
    words = layout.pop("meta")
    # the page adds the template itself: it is the same for every figure
    layout.pop("template", None)
    heading = {"title": layout.pop("title"), "top": layout["margin"]["t"], "height": layout["height"]}
    layout["height"], layout["margin"]["t"] = words.pop("height"), words.pop("top")
    return {"data": spec["data"], "layout": layout, "heading": heading, "file": file, **words}


def static(name: str) -> str:
    """The text of a script or style beside this file, which pages share."""
    return resources.files("codesign_kernel.figures").joinpath(name).read_text(encoding="utf-8")


def plotly_js() -> str:
    """Plotly's own bundle (4.8 MB), from the installed package."""
    return resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def script() -> str:
    """``figure.js`` with the template and the colour pairs it needs, as one script."""
    constants = {"template": json.loads(TEMPLATE_JSON), "dark": _TO_DARK, "narrow": NARROW_PX}
    return f"const CK_THEME = {json.dumps(constants)};\n{static('figure.js')}"


TEMPLATE_JSON = json.dumps(TEMPLATE.to_plotly_json())


def css_variables(colours: Mapping[str, str] = LIGHT) -> str:
    """The colours as CSS custom properties, ``--ck-ground: #FFFFFF; ...``."""
    return " ".join(f"--ck-{name}: {value};" for name, value in colours.items())


def axis(scale: Scale, values: Sequence[float], matter: Sequence[float] = ()) -> dict[str, Any]:
    """Layout of one axis: its title, and log ticks that read as plain numbers.

    Args:
        values: what is drawn on the axis, in its unit.
        matter: those that a linear axis has to show; it ends soon after them where the others go on far beyond.
    """
    layout: dict[str, Any] = {"title": {"text": scale.title}}
    if not scale.log:
        end = 1.15 * max(matter, default=0.0)
        return layout | ({"range": [0, end]} if 0 < end < 0.7 * max(values) else {"rangemode": "tozero"})
    positive = [value for value in values if value > 0]
    low, high = math.log10(min(positive)), math.log10(max(positive))
    steps = (1, 2, 5) if high - low < 3 else (1,)
    ticks = [step * 10.0**decade for decade in range(math.floor(low) - 2, math.ceil(high) + 3) for step in steps]
    return layout | {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,.10g}" for tick in ticks]}


def rows(names: Sequence[str]) -> dict[str, Any]:
    """The vertical axis of bars that lie, one a name (already :func:`plain`), the first on top."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": list(names),
        "range": [len(names) - 0.4, -0.6],
        "showgrid": False,
        "ticks": "",
        "showline": False,
        "ticklabelstandoff": 6,
    }


def lists(values: Sequence[float]) -> list[float]:
    """Numbers rounded to six digits: enough for a picture, and a third of the page's weight."""
    return [float(f"{value:.6g}") for value in values]
