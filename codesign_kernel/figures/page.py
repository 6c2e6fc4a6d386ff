"""Pieces of a self-contained HTML page. Every text that comes in is escaped here."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import plotly.graph_objects as go

from codesign_kernel.figures import theme

#: The page may use what it holds and load nothing.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


class Tile(NamedTuple):
    """A key figure: what it is, its value, a note below; ``state`` is ``good``, ``bad`` or empty."""

    label: str
    value: str
    note: str = ""
    state: str = ""


class Section(NamedTuple):
    """One step of the story: anchor, heading, and its HTML."""

    anchor: str
    heading: str
    body: str


def paragraph(text: str) -> str:
    """One paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def tiles(items: Iterable[Tile]) -> str:
    """Key figures side by side."""
    cells = []
    for item in items:
        state = f' class="ck-{item.state}"' if item.state else ""
        note = f"<span>{escape(item.note)}</span>" if item.note else ""
        cells.append(f"<div><dt>{escape(item.label)}</dt><dd{state}><b>{escape(item.value)}</b>{note}</dd></div>")
    return f'<dl class="ck-tiles">{"".join(cells)}</dl>'


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], numeric: int = 1) -> str:
    """A table that scrolls inside itself on a narrow page.

    Args:
        numeric: columns from this one on are set flush right.
    """
    cells = "".join(f'<th scope="col"{_flush(i, numeric)}>{escape(name)}</th>' for i, name in enumerate(head))
    lines = []
    for row in rows:
        first, *rest = (escape(str(value)) for value in row)
        line = "".join(f"<td{_flush(i, numeric)}>{value}</td>" for i, value in enumerate(rest, 1))
        lines.append(f'<tr><th scope="row">{first}</th>{line}</tr>')
    return (
        f'<div class="ck-scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{cells}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _flush(column: int, numeric: int) -> str:
    return ' class="ck-number"' if column >= numeric else ""


def download(name: str, text: str, words: str, kind: str = "text/csv") -> str:
    """A link that saves ``text`` as a file."""
    data = base64.b64encode(text.encode()).decode()
    link = f"data:{kind};charset=utf-8;base64,{data}"
    return f'<p><a class="ck-button" download="{escape(name)}" href="{link}">{escape(words)}</a></p>'


def details(summary: str, body: str) -> str:
    """Folded HTML."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def code(text: str) -> str:
    """Preformatted text."""
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def figure(picture: go.Figure, file: str) -> str:
    """A figure with its heading, its words for those who do not see it, and its data in the page."""
    spec = theme.page_spec(picture, file)
    body = json.dumps(spec, ensure_ascii=False).replace("<", "\\u003c")
    height = spec["layout"]["height"]
    caption = f'<p class="ck-caption">{escape(spec["caption"])}</p>' if spec["caption"] else ""
    return (
        f'<figure class="ck-figure" aria-labelledby="{file}-title">'
        f'<h3 class="ck-title" id="{file}-title">{escape(spec["title"])}</h3>'
        f'<p class="ck-subtitle">{escape(spec["subtitle"])}</p>'
        f'<div class="ck-plot" role="img" aria-label="{escape(spec["alt"])}" style="min-height:{height}px"></div>'
        f'<figcaption class="ck-foot">{caption}<div class="ck-save"></div></figcaption>'
        f"<noscript>{paragraph(spec['alt'])}</noscript>"
        f'<script type="application/json" class="ck-spec">{body}</script></figure>'
    )


_MOUNT = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const mounted = [...document.querySelectorAll(".ck-figure")].map((figure) =>
  ckMount(figure, JSON.parse(figure.querySelector(".ck-spec").textContent), () => dark.matches));
dark.addEventListener("change", () => mounted.forEach((one) => one.draw()));
"""


def document(title: str, heading: str, lead: str, top: str, sections: Sequence[Section], foot: str) -> str:
    """The whole page.

    Args:
        title: of the browser's tab. heading, lead: plain text. top: HTML under them. foot: HTML at the end.
    """
    steps = "".join(f'<li><a href="#{s.anchor}">{escape(s.heading)}</a></li>' for s in sections)
    body = "".join(
        f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-h"><h2 id="{s.anchor}-h">'
        f'<span aria-hidden="true">{i}</span> {escape(s.heading)}</h2>{s.body}</section>'
        for i, s in enumerate(sections, 1)
    )
    night = f"@media (prefers-color-scheme: dark) {{ :root {{ {theme.css_variables(theme.DARK)} }} }}"
    colours = f":root {{ {theme.css_variables()} }} {night}"
    style = "\n".join((colours, theme.static("figure.css"), theme.static("report.css")))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>'
        f'<link rel="icon" href="data:,"><style>{style}</style></head><body>'
        f'<a class="ck-skip" href="#main">Skip to the report</a><header><h1>{escape(heading)}</h1>'
        f'<p class="ck-lead">{escape(lead)}</p>{top}<nav aria-label="Steps"><ol>{steps}</ol></nav></header>'
        f'<main id="main">{body}</main>'
        f"<footer>{foot}</footer><script>{theme.plotly_js()}</script><script>{theme.script()}{_MOUNT}</script></body></html>"
    )


def manifest_rows(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) pairs of nested plain data, ``versions.torch`` for what lies inside."""
    rows: list[tuple[str, str]] = []
    for key, value in manifest.items():
        if isinstance(value, Mapping):
            rows += [(f"{key}.{inner}", told) for inner, told in manifest_rows(value)]
        elif isinstance(value, (list, tuple)):
            rows.append((str(key), ", ".join(str(item) for item in value)))
        else:
            rows.append((str(key), str(value)))
    return rows
