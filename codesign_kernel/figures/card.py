"""Card: a result as a few key figures and a small table, in HTML that needs no script and follows the page's theme."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from html import escape
from typing import NamedTuple

from codesign_kernel.figures import page, theme
from codesign_kernel.figures.page import Tile

#: Characters of a name or a cell; what is longer is cut, so that a card stays small whatever it is about.
LONGEST = 160


class Card(NamedTuple):
    """What a card says, all of it plain text.

    Attributes:
        title: what it is. tiles: key figures. note: words below.
        caption, head, rows: of the table; none without rows. numeric: columns from this one on are numbers.
    """

    title: str
    tiles: Sequence[Tile] = ()
    caption: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    numeric: int = 1
    note: str = ""


@cache
def _style() -> str:
    """cards.css without its line ends. Its colours are mixed from the text's, so that dark pages need no rule."""
    return re.sub(r"\n+", "", theme.static("cards.css"))


def cut(text: object, length: int = LONGEST) -> str:
    """The beginning of a long text."""
    told = str(text)
    return told if len(told) <= length else f"{told[: length - 1]}…"


def html_of(card: Card) -> str:
    """The card as HTML, every text escaped; a few KB."""
    parts = [f'<p class="ck-card-title">{escape(cut(card.title))}</p>']
    if card.tiles:
        parts.append(page.tiles(tile._replace(value=cut(tile.value), note=cut(tile.note)) for tile in card.tiles))
    if card.rows:
        rows = [[cut(cell) for cell in row] for row in card.rows]
        parts.append(page.table(card.caption, card.head, rows, card.numeric))
    if card.note:
        parts.append(f'<p class="ck-note">{escape(cut(card.note, 2000))}</p>')
    return f'<div class="ck-card"><style>{_style()}</style>{"".join(parts)}</div>'
